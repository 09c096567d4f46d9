"""Four-bit weights: NF4 by its definition, the model that they make, its gradients, tuning, keeping; what is refused.

The levels of NF4 are computed here from quantiles of the normal distribution, in float64 (QLoRA, appendix E).
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from scipy.stats import norm
from transformers import LlamaConfig, LlamaForCausalLM

from seqrec_lib.data.sequences import Sequences
from seqrec_lib.errors import SeqRecError
from seqrec_lib.language import pretrained, quantized, ranker_training
from seqrec_lib.language.adapters import with_adapter
from seqrec_lib.language.corpus import PAPER_RANKING, item_titles, letters, pad
from seqrec_lib.language.logits import next_token_logits
from seqrec_lib.language.pretrained import LanguageModel
from seqrec_lib.language.ranker_recipes import Setting
from seqrec_lib.language.ranker_training import Examples, tune
from seqrec_lib.language.ranking import LetterRanker
from tests.conftest import random_sequences
from tests.language.conftest import once

K = 5
TARGETS = 2 * 2  # layers, projections with an adapter


@pytest.fixture
def library() -> Any:
    """bitsandbytes: `make setup` installs it wherever it has a build, and says where it has none."""
    return pytest.importorskip("bitsandbytes", reason="bitsandbytes has no build for this machine")


@pytest.fixture(scope="module")
def data() -> Sequences:
    return random_sequences(7, n_users=12, n_items=30, longest=12)


def write(folder: Path, data: Sequences, **changes: Any) -> Path:
    """A tiny model of Llama-2's make (grouped keys, an output layer of its own) in the hub's format."""
    texts = pretrained.prompt_texts(
        item_titles(data)[1:], PAPER_RANKING.render([], []), " " + " ".join(letters(20)), "(A) (B) (1) (2)"
    )
    tokenizer = pretrained.train_tokenizer(texts, 400)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape |= {"num_key_value_heads": 1, "max_position_embeddings": 256, "vocab_size": len(tokenizer)}
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**(shape | special | {"initializer_range": 0.15} | changes)))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data: Sequences) -> Path:
    return write(tmp_path_factory.mktemp("models") / "tiny-llama", data)


def four_bits(folder: Path) -> LanguageModel:
    return quantized.load(f"nf4:{folder}", "cpu")


def levels() -> np.ndarray:
    """NF4's sixteen, as its definition has them: eight quantiles above zero, seven below, zero, over the largest."""
    outermost = 1 - (1 / 32 + 1 / 30) / 2
    above = norm.ppf(np.linspace(outermost, 0.5, 9)[:-1])
    below = -norm.ppf(np.linspace(outermost, 0.5, 8)[:-1])
    return np.sort(np.concatenate([below, [0.0], above])) / above.max()


def by_definition(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the nearest level of each weight of blocks (n, 64), the blocks' scales (n, 1)), in float64."""
    blocks = weights.astype(np.float64).reshape(-1, 64)
    scales = np.abs(blocks).max(1, keepdims=True)
    nearest = np.abs(blocks[..., None] / scales[..., None] - levels()).argmin(-1)
    return levels()[nearest], scales


def linear(model: Any) -> dict[str, Any]:
    """The quantised layers by name."""
    return {name: m for name, m in model.named_modules() if getattr(getattr(m, "weight", None), "quant_state", None)}


def in_full(folder: Path, language: LanguageModel, library: Any) -> LanguageModel:
    """An ordinary float32 model whose weights are the values that the four bits stand for."""
    plain = pretrained.load(str(folder))
    with torch.no_grad():
        for name, layer in linear(language.model).items():
            values = library.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
            plain.model.get_submodule(name).weight.copy_(values)
    return plain


def make_ranker(language: LanguageModel, data: Sequences) -> LetterRanker:
    return LetterRanker(language, PAPER_RANKING, item_titles(data), Setting(candidates=K, history=4, prompt_tokens=200))


def adapted(language: LanguageModel, data: Sequences, adapt: Any = quantized.with_adapter) -> LetterRanker:
    """A ranker whose adapters do something already; the same for every model of one shape."""
    ranker = make_ranker(language, data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        ranker.model = adapt(language.model, rank=4)
        for name, parameter in ranker.model.named_parameters():
            if parameter.requires_grad and "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
    return ranker


def examples(ranker: LetterRanker, data: Sequences) -> Examples:
    histories = data.split("test")
    rng = np.random.default_rng(0)
    items = np.array([rng.permutation(np.arange(1, 31))[:K] for _ in range(len(histories))])
    chosen = np.arange(len(histories)) % K
    return Examples(ranker.prompts(data, histories, items), chosen, (chosen + 1) % K)


@pytest.mark.parametrize("shape", [(64, 128), (8, 48), (3, 64)])
def test_quantised_weights_are_nf4_by_its_definition(library: Any, shape: tuple[int, int]) -> None:
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.1, 3, shape[0])[:, None]
    packed, state = library.functional.quantize_4bit(weights, blocksize=64, quant_type="nf4")
    assert packed.numel() * 2 == weights.numel() and state.blocksize == 64
    np.testing.assert_allclose(state.code.numpy(), levels(), atol=1e-6)
    nearest, scales = by_definition(weights.numpy())
    values = library.functional.dequantize_4bit(packed, state).numpy().reshape(-1, 64)
    if shape[1] % 64 and not np.allclose(values, nearest * scales, rtol=1e-5, atol=1e-7):
        # bitsandbytes' kernel for AVX-512 takes the scale of a wrong block where rows are no multiple of one
        with pytest.raises(SeqRecError, match=f"no four-bit weights in rows of {shape[1]} on cpu"):
            quantized._try(library, "cpu", shape[1])
        return
    np.testing.assert_allclose(values, nearest * scales, rtol=1e-5, atol=1e-7)


def test_a_loaded_model_has_nf4_weights_with_scales_of_eight_bits(library: Any, folder: Path) -> None:
    language, original = four_bits(folder), pretrained.load(str(folder)).model
    found = linear(language.model)
    assert len(found) == 2 * 7  # of each layer: four of attention, three of the gated unit; not the output layer
    for name, layer in found.items():
        values = library.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).numpy().reshape(-1, 64)
        nearest, scales = by_definition(original.get_submodule(name).weight.detach().numpy())
        own = np.take_along_axis(values, np.abs(nearest).argmax(1)[:, None], 1)
        own = np.abs(own)  # the scale as it comes back
        np.testing.assert_allclose(values, nearest * own, rtol=1e-5, atol=1e-7)
        spread = np.abs(scales - scales.mean()).max()  # the widest step of the eight-bit code is a seventieth of it
        assert np.abs(own - scales).max() < spread / 60
        assert np.abs(own - scales).max() > 0
    for name, parameter in language.model.named_parameters():
        if name.removesuffix(".weight") not in found:  # embeddings, norms, output layer: untouched
            assert torch.equal(parameter, original.get_parameter(name)) and parameter.dtype == torch.float32
        assert not parameter.requires_grad


def test_the_record_says_what_was_done_to_the_weights_and_counts_the_unquantised_model(
    library: Any, folder: Path
) -> None:
    language, plain = four_bits(folder), pretrained.load(str(folder))
    how = language.provenance["quantisation"]
    assert {k: v for k, v in language.provenance.items() if k != "quantisation"} == plain.provenance
    assert how | {"weight_bytes": 0} == {
        "type": "nf4", "block": 64, "double": True, "scales_block": 256, "compute": "float32", "layers": 14,
        "library": f"bitsandbytes {library.__version__}", "weight_bytes": 0,
    }  # fmt: skip
    assert json.loads(json.dumps(how)) == how
    assert quantized.parameter_counts(language.model) == pretrained.parameter_counts(plain.model)
    assert pretrained.parameter_counts(language.model)[0] < plain.provenance["parameters"]  # which counts bytes
    sizes = [layer.in_features * layer.out_features for layer in linear(language.model).values()]
    outside = plain.provenance["parameters"] - sum(sizes)
    blocks = [size // 64 for size in sizes]
    tables = 16 * 4  # a layer's levels
    wanted = sum(sizes) // 2 + sum(n + 4 * math.ceil(n / 256) + tables for n in blocks) + 4 * outside
    assert how["weight_bytes"] - wanted in {256 * 4, 14 * 256 * 4}  # the code of eight bits: shared, or one to a layer
    share = sum(sizes) * quantized.bits_per_weight() / 8
    assert share == pytest.approx(sum(size / 2 + n + 4 * n / 256 for size, n in zip(sizes, blocks, strict=True)))


def test_the_forward_pass_is_that_of_the_values_that_the_bits_stand_for(
    library: Any, folder: Path, data: Sequences
) -> None:
    language = four_bits(folder)
    plain = in_full(folder, language, library)
    rows = [torch.randint(1, 300, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in (1, 7, 70, 12)]
    batch = pad(rows, language.tokenizer.pad_token_id)
    with torch.inference_mode():
        together = next_token_logits(language.model, batch.ids, batch.lengths)
        torch.testing.assert_close(
            together, next_token_logits(plain.model, batch.ids, batch.lengths), rtol=1e-5, atol=1e-5
        )
        for row, logits in zip(rows, together, strict=True):  # padding on the right reaches nothing
            alone = language.model(input_ids=torch.tensor([row])).logits[0, -1]
            torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-5)
        exact = next_token_logits(pretrained.load(str(folder)).model, batch.ids, batch.lengths)
    assert (together - exact).abs().max() > 1e-2  # and it is not the model as it was


def test_gradients_reach_the_adapters_alone_and_are_those_of_the_full_model(
    library: Any, folder: Path, data: Sequences
) -> None:
    language = four_bits(folder)
    plain = in_full(folder, language, library)
    passes: list[int] = []
    calls = language.model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: passes.append(1))
    found = []
    for ranker in (adapted(language, data), adapted(plain, data, with_adapter)):
        own = examples(ranker, data)
        batch = pad(own.prompts, ranker.tokenizer.pad_token_id)
        ranker.model.train()
        torch.manual_seed(11)  # of the adapters' dropout
        logits = next_token_logits(ranker.model, batch.ids, batch.lengths, ranker.letter_tokens)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(own.chosen))
        loss.backward()
        trained = {n: p.grad for n, p in ranker.model.named_parameters() if p.requires_grad}
        assert all(p.grad is None for p in ranker.model.parameters() if not p.requires_grad)
        found.append((loss.detach(), trained))
    calls.remove()
    assert len(passes) == 2  # once more in the backward pass: activations were not kept
    (loss, ours), (wanted_loss, wanted) = found
    torch.testing.assert_close(loss, wanted_loss, rtol=1e-6, atol=1e-6)
    assert ours.keys() == wanted.keys() and len(ours) == 2 * TARGETS and all("lora_" in name for name in ours)
    for name, gradient in ours.items():
        assert gradient is not None and gradient.abs().max() > 1e-6
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-7)


def test_tuning_learns_and_leaves_the_bits_alone(library: Any, folder: Path, data: Sequences) -> None:
    language = four_bits(folder)
    before = {name: layer.weight.data.clone() for name, layer in linear(language.model).items()}
    ranker = make_ranker(language, data)
    untouched = ranker.scores(examples(ranker, data).prompts)
    ranker.model = quantized.with_adapter(language.model, rank=4)
    np.testing.assert_array_equal(ranker.scores(examples(ranker, data).prompts), untouched)  # B starts at zero
    history = tune(
        ranker, examples(ranker, data), once("letters", learning_rate=1e-2, warmup_steps=1, batch=6, epochs=8)
    )
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert history[-1]["accuracy"] > history[0]["accuracy"]
    for name, layer in linear(language.model).items():
        kept = before[name.removeprefix("base_model.model.").replace(".base_layer", "")]
        assert torch.equal(layer.weight.data, kept)


@pytest.mark.parametrize("stop", [1, 7])
def test_tuning_goes_on_exactly_where_it_was_cut(
    stop: int, library: Any, folder: Path, data: Sequences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranker_training, "SECONDS", 0.0)
    config = once("dpo", learning_rate=1e-2, warmup_steps=1, batch=2, epochs=2)

    def run(name: str, cut: int | None = None) -> tuple[Any, Any]:
        ranker, steps = adapted(four_bits(folder), data), 0

        def report(share: float, line: str) -> None:
            nonlocal steps
            steps += line.startswith("epoch")
            if steps == cut:
                raise KeyboardInterrupt

        ranker.folder, ranker.report_share = tmp_path, report
        history = tune(ranker, examples(ranker, data), config, name=name)
        return history, ranker.scores(examples(ranker, data).prompts)

    whole, logits = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("cut", stop)
    payload = torch.load(tmp_path / "cut.pt", weights_only=True)
    weights = payload["parts"]["weights"]
    assert len(weights) == 2 * TARGETS and all("lora_" in name for name in weights)
    resumed, again = run("cut")
    assert resumed == whole
    np.testing.assert_array_equal(again, logits)


def test_a_kept_model_is_its_adapter_and_comes_back_as_it_was(
    library: Any, folder: Path, data: Sequences, tmp_path: Path
) -> None:
    source, language = f"nf4:{folder}", four_bits(folder)
    ranker = adapted(language, data)
    tune(ranker, examples(ranker, data), once(learning_rate=1e-2, warmup_steps=1, batch=6, epochs=2))
    prompts = examples(ranker, data).prompts
    tuned = ranker.scores(prompts)
    kept = tmp_path / "model"
    quantized.save(ranker.model, ranker.tokenizer, language.provenance, kept)
    assert sum(path.stat().st_size for path in kept.glob("*.safetensors")) < 20_000
    assert str(folder) not in "".join(path.read_text(encoding="utf-8") for path in kept.glob("*.json"))
    assert json.loads((kept / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny-llama"

    loaded = quantized.load_tuned(kept, source, "cpu")
    assert loaded.provenance == language.provenance
    again = make_ranker(loaded, data)
    np.testing.assert_array_equal(again.scores(prompts), tuned)
    loaded.model.train()
    batch = pad(prompts, loaded.tokenizer.pad_token_id)
    with torch.no_grad():  # what was tuned is a part of the model now: it has no dropout of its own
        logits = next_token_logits(loaded.model, batch.ids, batch.lengths, again.letter_tokens)
    np.testing.assert_allclose(logits.numpy(), tuned, rtol=1e-4, atol=1e-5)

    again.model = quantized.with_adapter(loaded.model, rank=4)
    np.testing.assert_array_equal(again.scores(prompts), tuned)  # the new adapter starts at nothing
    names = [name for name, parameter in again.model.named_parameters() if parameter.requires_grad]
    assert len(names) == 2 * TARGETS and all(".further." in name for name in names)
    frozen = {n: p.clone() for n, p in again.model.named_parameters() if ".default." in n}
    assert len(frozen) == 2 * TARGETS
    history = tune(again, examples(again, data), once("orpo", learning_rate=1e-2, warmup_steps=1, batch=6, epochs=4))
    assert history[-1]["loss"] < history[0]["loss"]
    assert np.abs(again.scores(prompts) - tuned).max() > 1e-3
    parameters = dict(again.model.named_parameters())
    assert all(torch.equal(parameters[name], value) for name, value in frozen.items())

    other = tmp_path / "other"
    shutil.copytree(folder, other)
    LlamaForCausalLM.from_pretrained(folder, dtype=torch.float16).save_pretrained(other)
    with pytest.raises(SeqRecError, match="weights are not those that the adapter in model was tuned on"):
        quantized.load_tuned(kept, f"nf4:{other}", "cpu")


def test_merged_into_four_bits_a_small_update_would_be_lost(library: Any, folder: Path, data: Sequences) -> None:
    """Why the adapter is kept and not merged."""
    language = four_bits(folder)
    base = make_ranker(language, data)
    prompts = examples(base, data).prompts
    before = base.scores(prompts)
    ranker = make_ranker(language, data)
    ranker.model = quantized.with_adapter(language.model, rank=4)
    tune(ranker, examples(ranker, data), once(learning_rate=1e-3, warmup_steps=1, batch=6))
    tuned = ranker.scores(prompts)
    with pytest.warns(UserWarning, match="rounding errors"):
        ranker.model = ranker.model.merge_and_unload()
    merged = ranker.scores(prompts)
    assert np.abs(merged - tuned).max() > 0.5 * np.abs(tuned - before).max() > 0


def test_in_bfloat16_as_on_a_gpu_it_ranks_and_learns(
    library: Any, folder: Path, data: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = adapted(four_bits(folder), data)
    prompts = examples(exact, data).prompts
    wanted = exact.scores(prompts)
    monkeypatch.setattr(quantized, "_compute", lambda device: torch.bfloat16)
    language = four_bits(folder)
    assert language.provenance["quantisation"]["compute"] == "bfloat16"
    ranker = adapted(language, data)
    seen: dict[str, torch.dtype] = {}
    body, head = language.model.model, language.model.lm_head
    body.layers[0].self_attn.o_proj.register_forward_hook(lambda _, given, out: seen.update(attended=given[0].dtype))
    head.register_forward_hook(lambda _, given, out: seen.update(read=given[0].dtype, logits=out.dtype))
    found = ranker.scores(prompts)
    assert seen == {"attended": torch.bfloat16, "read": torch.float32, "logits": torch.float32}
    np.testing.assert_allclose(found, wanted, atol=0.1 * np.abs(wanted).max())
    assert np.abs(found - wanted).max() > 0
    history = tune(
        ranker, examples(ranker, data), once("letters", learning_rate=1e-2, warmup_steps=1, batch=6, epochs=6)
    )
    assert history[-1]["loss"] < history[0]["loss"]
    assert all(p.dtype == torch.float32 for p in ranker.model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("source", "rank", "message"),
    [
        ("nf4:scratch:titles", 8, "four bits are for pretrained weights"),
        ("nf4:", 8, "put a hub id or a folder behind nf4:"),
        ("nf4:meta-llama/Llama-2-7b-hf", 0, "four-bit weights are not trained, adapters are"),
    ],
)
def test_what_four_bits_cannot_do_is_refused_in_one_line(source: str, rank: int, message: str) -> None:
    with pytest.raises(SeqRecError, match=message):
        quantized.check(source, rank)


def test_without_bitsandbytes_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(SeqRecError, match=r"bitsandbytes is missing .* pip install '.\[qlora\]'"):
        four_bits(folder)


def test_what_cannot_be_quantised_is_one_clear_line(
    library: Any, folder: Path, data: Sequences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SeqRecError, match="llama has no linear layer to keep in four bits"):
        four_bits(write(tmp_path / "empty", data, num_hidden_layers=0))
    with pytest.raises(SeqRecError, match="there is no such folder"):
        quantized.load("nf4:./nowhere", "cpu")
    (tmp_path / "bare").mkdir()
    with pytest.raises(SeqRecError, match=r"no config.json with \*.safetensors"):
        quantized.load(f"nf4:{tmp_path / 'bare'}", "cpu")
    already = shutil.copytree(folder, tmp_path / "already")
    config = json.loads((already / "config.json").read_text())
    (already / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(SeqRecError, match="quantised already"):
        four_bits(already)
    broken = Mock(side_effect=RuntimeError("\nno kernel\nfor this device"))
    monkeypatch.setattr(library.functional, "quantize_4bit", broken)
    with pytest.raises(SeqRecError, match=r"no four-bit weights in rows of 64 on cpu \(no kernel for this device\)"):
        four_bits(folder)


def test_a_device_that_returns_other_numbers_is_refused(
    library: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = library.functional.dequantize_4bit
    monkeypatch.setattr(library.functional, "dequantize_4bit", lambda *given: 2 * right(*given))
    with pytest.raises(SeqRecError, match=r"no four-bit weights .* come back 1.1 off"):
        four_bits(folder)
