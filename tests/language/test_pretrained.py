"""Loading: the three places, what is refused, and that padding does not reach a result."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from seqrec_lib.errors import SeqRecError
from seqrec_lib.language import pretrained
from seqrec_lib.language.corpus import pad
from seqrec_lib.language.logits import next_token_logits
from seqrec_lib.language.mixers import fast_mixers
from seqrec_lib.language.pretrained import END, Size, load, matched
from seqrec_lib.language.recipes import resolve
from seqrec_lib.language.sources import check_content, content_hash
from seqrec_lib.language.title_tokens import title_model
from seqrec_lib.results import plain
from tests.language.conftest import TINY, TITLES, make


@pytest.mark.parametrize("architecture", pretrained.ARCHITECTURES)
def test_a_checkpoint_in_the_hubs_format_gives_the_same_model(architecture: str, tmp_path: Path, tiny) -> None:
    made = tiny[architecture]
    folder = tmp_path / "tiny-model"
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    read = load(str(folder))
    text = made.tokenizer(TITLES[1])["input_ids"]
    assert read.tokenizer(TITLES[1])["input_ids"] == text
    ids, lengths = torch.tensor([text]), torch.tensor([len(text)])
    with torch.inference_mode():
        torch.testing.assert_close(
            next_token_logits(read.model, ids, lengths), next_token_logits(made.model, ids, lengths)
        )
    assert read.provenance["kind"] == "folder" and read.provenance["name"] == "tiny-model"
    assert len(read.provenance["weights_sha256"]) == 64
    assert read.provenance["parameters"] == made.provenance["parameters"]
    assert made.provenance["kind"] == "scratch"


def test_mamba2_is_loaded_with_chunks_that_a_cpu_can_hold(tmp_path: Path, tiny) -> None:
    made = tiny["mamba2"]
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"chunk_size": 256}))  # as published
    read = load(str(tmp_path)).model
    assert read.config.chunk_size == 64
    assert {layer.mixer.chunk_size for layer in read.backbone.layers} == {64}
    ids, lengths = torch.arange(1, 101)[None], torch.tensor([100])
    with torch.inference_mode():
        ours, wanted = (next_token_logits(model, ids, lengths) for model in (read, made.model))
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)


def test_a_folder_without_safe_weights_or_none_at_all_is_one_clear_line(tmp_path: Path, tiny) -> None:
    tiny["gpt2"].model.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "m" / "pytorch_model.bin")  # would have to be unpickled
    with pytest.raises(SeqRecError, match=r"no config.json with \*.safetensors"):
        load(str(tmp_path / "m"))
    with pytest.raises(SeqRecError, match="there is no such folder"):
        load(str(tmp_path / "nowhere"))
    with pytest.raises(SeqRecError, match="no architecture 'gpt5'"):
        load("scratch:gpt5", texts=["a"])


def checkpoint_of(tiny: Any, architecture: str, folder: Path) -> dict[str, torch.Tensor]:
    made = tiny[architecture]
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return dict(load_file(folder / "model.safetensors"))


def with_prefix(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"model.base.{name}": value for name, value in tensors.items()}


def without_one(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in tensors.items() if name != min(tensors)}


def with_one_more(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**tensors, "adapter.weight": torch.ones(3)}


def misshapen(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value[:1].clone() if name == min(tensors) else value for name, value in tensors.items()}


def misspelt(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace("norm", "nrom").replace("ln_f", "ln_g"): value for name, value in tensors.items()}


@pytest.mark.parametrize("architecture", pretrained.ARCHITECTURES)
@pytest.mark.parametrize("change", [with_prefix, without_one, with_one_more, misshapen, misspelt])
def test_tensors_that_are_not_the_models_are_refused_by_name(
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], architecture: str, tmp_path: Path, tiny: Any
) -> None:
    tensors = checkpoint_of(tiny, architecture, tmp_path / "m")
    load(str(tmp_path / "m"))
    changed = change(tensors)
    save_file(changed, tmp_path / "m" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SeqRecError, match="its tensors are not those of the") as caught:
        load(str(tmp_path / "m"))
    text = str(caught.value)
    assert "\n" not in text
    named = [name for name in {*changed, *tensors} if name in text]
    assert named, text


def test_tensors_that_models_compute_themselves_may_be_there(tmp_path: Path, tiny: Any) -> None:
    """As in GPT-2's own file, whose attention masks were saved with it."""
    tensors = checkpoint_of(tiny, "gpt2", tmp_path)
    masks = {f"transformer.h.0.attn.{name}": torch.ones(1, 1, 4, 4) for name in ("bias", "masked_bias")}
    save_file(tensors | masks, tmp_path / "model.safetensors", metadata={"format": "pt"})
    load(str(tmp_path))


@pytest.mark.parametrize("architecture", pretrained.ARCHITECTURES)
@pytest.mark.parametrize("kept", [(), ("tokenizer_config.json",), ("tokenizer.json", "tokenizer_config.json")])
def test_a_tokenizer_without_tokens_is_refused(
    kept: tuple[str, ...], architecture: str, tmp_path: Path, tiny: Any
) -> None:
    checkpoint_of(tiny, architecture, tmp_path)
    for path in tmp_path.glob("tokenizer*"):
        if path.name not in kept:
            path.unlink()
    if "tokenizer.json" in kept:  # it is there, and empty
        content = json.loads((tmp_path / "tokenizer.json").read_text())
        content["model"] |= {"vocab": {END: 0}, "merges": []}
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(SeqRecError, match=r"tokenizer|cannot be loaded"):
        load(str(tmp_path))


def test_a_tokenizer_of_item_names_is_one(tmp_path: Path) -> None:
    made = title_model(10, Size(16, 2, 2, 8, 64, 64), 0, None)
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    assert load(str(tmp_path)).tokenizer.get_vocab() == made.tokenizer.get_vocab()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"{}", b"{", b"\0" * 100, b"[" * 5000])
def test_files_that_cannot_be_read_are_one_clear_line(name: str, content: bytes, tmp_path: Path, tiny: Any) -> None:
    checkpoint_of(tiny, "gpt2", tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SeqRecError):
        load(str(tmp_path))


def test_the_hash_of_a_folder_is_that_of_what_is_read_from_it(tmp_path: Path, tiny: Any) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    checkpoint_of(tiny, "gpt2", one)
    shutil.copytree(one, two)
    first = content_hash(str(one))
    assert len(first) == 64 and content_hash(str(two)) == first
    (two / "README.md").write_text("notes")
    assert content_hash(str(two)) == first
    check_content(str(two), first)
    for path in sorted(two.iterdir()):
        if path.name == "README.md":
            continue
        data, at = bytearray(path.read_bytes()), path.stat()
        data[-2] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))  # as a careful copy leaves it
        assert content_hash(str(two)) != first, path.name
        with pytest.raises(SeqRecError, match="not the one that the run was planned with"):
            check_content(str(two), first)
        data[-2] ^= 1
        path.write_bytes(data)
    assert content_hash(str(two)) == first
    assert [content_hash(source) for source in ("", "gpt2", "scratch:gpt2", str(tmp_path / "nowhere"))] == [""] * 4


def test_a_hub_id_without_a_hub_says_how_to_get_the_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SeqRecError, match=r"hf download nobody/gpt9 --local-dir gpt9"):
        load("nobody/gpt9")


def test_from_scratch_the_tokenizer_is_shared_and_the_seed_decides_the_weights() -> None:
    a, b, c = make("gpt2"), make("mamba2"), make("gpt2", seed=1)
    assert a.tokenizer.get_vocab() == b.tokenizer.get_vocab() == c.tokenizer.get_vocab()
    again = make("gpt2").model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in a.model.state_dict().items())
    assert not torch.equal(a.model.transformer.wte.weight, c.model.transformer.wte.weight)
    shuffled = pretrained.train_tokenizer(reversed(pretrained.prompt_texts(TITLES[1:])), 300)
    assert shuffled.get_vocab() == pretrained.train_tokenizer(pretrained.prompt_texts(TITLES[1:]), 300).get_vocab()


def test_a_model_from_scratch_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    make("gpt2", seed=3)
    assert torch.equal(torch.rand(1), expected)


def test_mamba2_has_gpt2s_dropout_where_it_is_asked_for_and_runs_keep_their_ids() -> None:
    assert "same_dropout" not in plain(Size()), "the keys of runs from before there was a choice"
    size, _, _ = resolve("ml-100k", "mamrec", "scratch:mamba2", {"same_dropout": True, "dropout": 0.25})
    assert size is not None and size.same_dropout and size.dropout == 0.25
    assert pretrained.matched(size, "mamba2").same_dropout
    without, dropped = (make("mamba2", replace(TINY, same_dropout=same, dropout=0.25)).model for same in (False, True))
    ids = torch.randint(0, 300, (4, 40), generator=torch.Generator().manual_seed(0))
    given: dict[str, torch.Tensor] = {}
    dropped.backbone.layers[1].norm.register_forward_hook(lambda _, args, __: given.update(x=args[0].detach()))
    dropped.backbone.layers[0].register_forward_pre_hook(lambda _, args, kw: given.update(e=args[0]), with_kwargs=True)
    with torch.no_grad():
        assert torch.equal(without(ids).logits, dropped(ids).logits), "none when a text is written"
        dropped.train()
        for swapped in (nullcontext(), fast_mixers(dropped)):
            with swapped:
                torch.manual_seed(0)
                first, again = dropped(ids).logits, dropped(ids).logits
            assert not torch.equal(first, again)
            added = given["x"] - given["e"]  # what the first layer added
            assert float((given["e"] == 0).float().mean()) == pytest.approx(0.25, abs=0.05)
            assert float((added == 0).float().mean()) == pytest.approx(0.25, abs=0.05)
        dropped.eval()


@pytest.mark.parametrize(
    "size", [Size(), Size(d_model=64, n_layers=2, heads=2, vocabulary=1000), Size(d_model=256, n_layers=6)]
)
def test_matched_sizes_differ_by_less_than_two_percent(size: Size) -> None:
    wanted = pretrained.count("gpt2", size)
    other = matched(size, "mamba2")
    assert (other.d_model, other.vocabulary) == (size.d_model, size.vocabulary)
    assert abs(pretrained.count("mamba2", other) / wanted - 1) < 0.02
    assert matched(size, "gpt2") is size


@pytest.mark.parametrize("architecture", pretrained.ARCHITECTURES)
@pytest.mark.parametrize(
    "size", [Size(), Size(d_model=48, n_layers=2, heads=3, d_state=24, positions=64, vocabulary=300)]
)
def test_counts_are_those_of_the_models(architecture: str, size: Size) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(pretrained.configuration(architecture, size))
    assert pretrained.count(architecture, size) == sum(p.numel() for p in model.parameters())


def test_counts_and_geometry_of_the_papers_models() -> None:
    gpt2 = Size(d_model=768, n_layers=12, heads=12, positions=1024, vocabulary=50257)
    assert pretrained.count("gpt2", gpt2) == 124_439_808  # GPT-2 small: 117M as its authors printed it
    mamba2 = replace(gpt2, n_layers=24, heads=24, d_state=128, vocabulary=50288)
    assert round(pretrained.count("mamba2", mamba2) / 1e6) == 129  # state-spaces/mamba2-130m


@pytest.mark.parametrize("architecture", pretrained.ARCHITECTURES)
def test_right_padding_never_reaches_the_last_real_position(architecture: str, tiny) -> None:
    made = tiny[architecture]
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(1, 300, (n,), generator=generator).tolist() for n in (1, 7, 70, 12)]
    batch = pad(rows, made.tokenizer.pad_token_id)
    with torch.inference_mode():
        together = next_token_logits(made.model, batch.ids, batch.lengths)
        for row, logits in zip(rows, together, strict=True):
            alone = made.model(input_ids=torch.tensor([row])).logits[0, -1]
            torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-4)
        columns = torch.tensor([3, 1])
        torch.testing.assert_close(
            next_token_logits(made.model, batch.ids, batch.lengths, columns), together[:, columns]
        )


def test_left_padding_with_a_mask_alone_is_wrong_for_gpt2(tiny) -> None:
    """Why padding stands on the right: GPT-2 counts positions from the first padded one unless told otherwise."""
    model = tiny["gpt2"].model
    row = torch.arange(5, 15)[None]
    padded = torch.cat([torch.zeros(1, 6, dtype=torch.long), row], dim=1)
    mask = (torch.arange(16) >= 6).long()[None]
    with torch.inference_mode():
        alone = model(input_ids=row).logits[0, -1]
        left = model(input_ids=padded, attention_mask=mask).logits[0, -1]
    assert (left - alone).abs().max() > 0.1 * alone.abs().max()
