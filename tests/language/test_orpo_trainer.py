"""TRL's ORPO trainer from end to end, as a peer: on its own batches our objective takes the same steps."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from seqrec_lib.language.corpus import IGNORED, letters
from seqrec_lib.language.objectives import answer_loss
from seqrec_lib.language.pretrained import Size
from seqrec_lib.language.title_tokens import title_model

STEPS, LAMBDA, RATE = 4, 0.3, 1e-2
EPSILON = 1e-4  # of AdamW: with less, the rounding of gradients near zero decides steps


def letter_alone(row: dict[str, Any]) -> dict[str, Any]:
    """A row of TRL's without the end of text that it puts behind each answer."""
    return {name: [*row[name][:-1], IGNORED] for name in ("chosen_labels", "rejected_labels")}


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
        save_strategy="no", disable_tqdm=True, max_grad_norm=0.0, adam_epsilon=EPSILON, remove_unused_columns=False,
        bf16=False, gradient_checkpointing=False,
    )  # fmt: skip
    trainer = trl.ORPOTrainer(
        model=language.model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=language.tokenizer
    )
    trainer.train_dataset = trainer.train_dataset.map(letter_alone)
    batch = next(iter(trainer.get_train_dataloader()))  # all rows: their order does not matter
    trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(theirs) == STEPS

    optimizer = torch.optim.AdamW(ours.parameters(), lr=RATE, eps=EPSILON, weight_decay=0.0)
    ids, mask, labels = (batch[f"chosen_{name}"] for name in ("input_ids", "attention_mask", "labels"))
    pool = torch.tensor(language.tokenizer.convert_tokens_to_ids(list(letters(3))))
    place = (labels != IGNORED).nonzero()[:, 1] - 1  # the prompt's last token
    chosen, rejected = torch.zeros(len(rows), dtype=torch.int64), torch.full((len(rows),), 2)
    found = []
    for _ in range(STEPS):
        logits = ours(input_ids=ids, attention_mask=mask, use_cache=False).logits
        last = logits[torch.arange(len(rows)), place]
        orpo, sft = (answer_loss(own, last, pool, chosen, rejected, lambda_=LAMBDA) for own in ("orpo", "sft"))
        whole = ids.masked_fill(mask == 0, IGNORED)  # TRL's L_SFT covers prompt, answer and end
        nll = F.cross_entropy(logits[:, :-1].flatten(0, 1), whole[:, 1:].flatten(), ignore_index=IGNORED)
        loss = nll + (orpo - sft).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found == pytest.approx(theirs, abs=2e-3)  # the trainer's log has four decimals, and float32 drifts
    assert found[0] - found[-1] > 0.05  # something was learned
    for own, other in zip(ours.parameters(), language.model.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-2, atol=1e-3)
