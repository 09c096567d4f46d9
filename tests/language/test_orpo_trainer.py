"""TRL's ORPO trainer from end to end, as a peer: on its own batches our loss takes the same steps."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from seqrec_lib.language.corpus import IGNORED
from seqrec_lib.language.orpo import pair_loss
from seqrec_lib.language.pretrained import Size
from seqrec_lib.language.title_tokens import title_model

STEPS, LAMBDA, RATE = 4, 0.3, 1e-2


def answer(batch: dict[str, Any], side: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(token ids, labels of the answer, labels of the whole text) of a batch of TRL's."""
    ids, mask = batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"]
    return ids, batch[f"{side}_labels"], ids.masked_fill(mask == 0, IGNORED)


@pytest.mark.filterwarnings("ignore")
def test_our_loss_takes_the_steps_of_trls_trainer(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl.experimental.orpo")
    from datasets import Dataset

    language = title_model(12, Size(d_model=16, n_layers=2, heads=2, positions=64), 0)
    rows = [
        {"prompt": f"Pool A <{i}> B <{i + 1}> C <{i + 2}> History <{i + 3}> Answer", "chosen": " A", "rejected": " C"}
        for i in range(1, 9)
    ]
    ours = copy.deepcopy(language.model)
    arguments = trl.ORPOConfig(
        output_dir=str(tmp_path), beta=LAMBDA, learning_rate=RATE, lr_scheduler_type="constant", max_steps=STEPS,
        per_device_train_batch_size=len(rows), logging_steps=1, max_length=32, report_to=[], use_cpu=True,
        save_strategy="no", disable_tqdm=True, max_grad_norm=0.0, remove_unused_columns=False, bf16=False,
        gradient_checkpointing=False,
    )  # fmt: skip
    trainer = trl.ORPOTrainer(
        model=language.model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=language.tokenizer
    )
    batch = next(iter(trainer.get_train_dataloader()))  # all rows: their order does not matter
    trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(theirs) == STEPS

    optimizer = torch.optim.AdamW(ours.parameters(), lr=RATE, weight_decay=0.0)
    found = []
    for _ in range(STEPS):
        parts = [answer(batch, side) for side in ("chosen", "rejected")]
        logits = [
            ours(input_ids=ids, attention_mask=batch[f"{side}_attention_mask"], use_cache=False).logits
            for (ids, _, _), side in zip(parts, ("chosen", "rejected"), strict=True)
        ]
        (_, labels, whole), (_, lost, _) = parts
        loss = pair_loss((logits[0], labels, whole), (logits[1], lost), LAMBDA, prompt_in_nll=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found == pytest.approx(theirs, abs=2e-3)  # the trainer's log has four decimals, and float32 drifts
    assert found[0] - found[-1] > 0.05  # something was learned
    for own, other in zip(ours.parameters(), language.model.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-2, atol=1e-3)
