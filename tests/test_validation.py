"""Values that no run can mean are one line from ``plan``: before any data, without torch, for every field there is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import EXPERIMENTS, get
from seqrec_lib.models import MODELS, build, check_architecture
from seqrec_lib.parameters import schema
from seqrec_lib.results import plain
from seqrec_lib.results.provenance import ROOT
from seqrec_lib.train.recipes import TrainingConfig, resolve
from seqrec_lib.validation import Checked, Count, Part, Seed, Several, plans, read_json, short

JUNK: list[Any] = [None, "junk", True, -1, 1.5, float("nan"), float("inf"), 10**400, 10**5000, [], [None], [[]], {1: 2}]


def allowed(experiment: str, name: str, value: Any) -> bool:
    """What of the junk is a value of a parameter."""
    if name == "measure_beta":
        return value is True
    if name in {"sources", "overrides", "tuning", "retriever_overrides"}:
        return False
    return (name == "source" and value == "junk") or (
        name in {"arms", "grids", "negatives", "paths"} and experiment != "orpo" and value == []
    )


def allowed_override(name: str, value: Any) -> bool:
    """What of the junk is a value of an override."""
    finite = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 100
    over = {"length_penalty"} if value == -1 else {"learning_rate", "weight_decay", "clip", "length_penalty", "lambda_"}
    return (
        (name in {"vectors", "same_dropout"} and value is True)
        or (name == "prompts" and value is None)
        or (finite and name in over | ({"beta", "gamma"} if value == 1.5 else set()))
    )


def parameters_of(experiment: str) -> dict[str, Any]:
    known = schema(ROOT / "notebooks" / f"{experiment}.ipynb")
    return {name: parameter.default for name, parameter in known.items()}


def overridden(experiment: str) -> dict[str, list[str]]:
    """Names of settings that a plan takes, by the parameter that takes them."""
    from seqrec_lib.language.pretrained import Size
    from seqrec_lib.language.ranker_recipes import Preference, Setting, Teaching
    from seqrec_lib.language.recipes import Tuning, Writing

    models = {*MODELS[parameters_of("optimizers")["model"]].architecture, *names(TrainingConfig)} - {"seed"}
    everything = {name for spec in MODELS.values() for name in spec.architecture} | models
    # the page of the optimizers sets epochs and patience itself; full precision, no warm-up and AdamW's rate are fixed
    fixed = {"epochs", "patience"}
    return {
        "accuracy": {"overrides": sorted(everything)},
        "optimizers": {"overrides": sorted(models - fixed)},
        "generative": {"overrides": names(Size, Tuning, Writing)},
        "llamarec": {
            "overrides": names(Size, Setting, Teaching),
            "retriever_overrides": ["n_heads", "dropout", "clip"],
        },
        "orpo": {"overrides": names(Size, Setting, Teaching), "tuning": names(Preference)},
    }.get(experiment, {})


def names(*kinds: Any) -> list[str]:
    return [field.name for kind in kinds for field in fields(kind)]


def walk() -> list[str]:
    """Junk in every parameter and in every override of every experiment: what did not come out as one line."""
    wrong, tried = [], 0
    for experiment in EXPERIMENTS:
        given = parameters_of(experiment)
        if experiment == "accuracy":
            given["models"] = list(MODELS)
        cases = [
            (f"{name}={short(value)}", {name: value})
            for name in given
            if name not in {"missing", "device", "metric", "metrics", "rerun", "keep_going"}
            for value in JUNK
            if not allowed(experiment, name, value)
        ]
        cases += [
            (f"{place}.{name}={short(value)}", {place: {name: value}})
            for place, settings in overridden(experiment).items()
            for name in settings
            for value in JUNK
            if not allowed_override(name, value)
        ]
        for label, change in cases:
            tried += 1
            try:
                get(experiment).plan(given | change)
                wrong.append(f"{experiment}: {label} passes")
            except SeqRecError as error:
                if "\n" in str(error) or len(str(error)) > 1000:
                    wrong.append(f"{experiment}: {label}: {error}")
            except Exception as error:
                wrong.append(f"{experiment}: {label}: {type(error).__name__}: {str(error)[:200]}")
    assert tried > 1000
    return wrong


def test_junk_in_any_field_is_one_line_from_plan_and_torch_is_never_imported() -> None:
    code = (
        "import sys, json; sys.modules['torch'] = None\n"
        "from seqrec_lib.experiments import EXPERIMENTS, get\n"
        "from tests import test_validation\n"
        "print(json.dumps(test_validation.walk()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == []


PRETRAINED = {"models": ["gpt4rec"], "sources": {"gpt4rec": "gpt2"}}
SASREC, MAMBA2 = {"models": ["popularity", "sasrec"]}, {"models": ["2mamba4rec"]}


@pytest.mark.parametrize(
    ("experiment", "change", "message"),
    [
        ("accuracy", SASREC | {"overrides": {"n_heads": 3}}, "n_heads is 3; it should divide d_model, which is 64"),
        ("accuracy", SASREC | {"overrides": {"d_model": 65}}, "n_heads is 2; it should divide d_model, which is 65"),
        ("accuracy", MAMBA2 | {"overrides": {"headdim": 48}}, "headdim is 48; it should divide expand . d_model"),
        ("accuracy", {"models": ["hydra4rec"], "overrides": {"d_conv": 6}}, "d_conv is 6; it should be odd"),
        ("accuracy", {"models": ["hydra4rec+residual"], "overrides": {"d_conv": 1}}, "d_conv is 1; it should be odd"),
        ("accuracy", SASREC | {"overrides": {"stride": 500}}, "stride is 500; it should be at most max_length"),
        ("accuracy", SASREC | {"overrides": {"max_length": 10**12}}, "max_length is 1000000000000; .* 100000"),
        ("accuracy", SASREC | {"overrides": {"objective": "prefix"}}, "objective is 'prefix'; did you mean 'prefixes'"),
        ("accuracy", SASREC | {"overrides": {"average": 1.0}}, "average is 1.0; it should be less than 1"),
        ("accuracy", SASREC | {"overrides": {"learning_rate": 10**400}}, "learning_rate is 1000.*characters"),
        ("accuracy", SASREC | {"seeds": [2**64]}, r"seeds\[0\] is 18446744073709551616; it should be less than"),
        ("accuracy", {"models": ["popularity"], "overrides": {"dropuot": 0.1}}, "unknown override 'dropuot'"),
        ("accuracy", SASREC | {"overrides": {"dropuot": 0.1}}, "unknown override 'dropuot'; did you mean 'dropout'"),
        ("accuracy", {"dataset": "ml-2m"}, "unknown data set 'ml-2m'"),
        ("accuracy", {"models": ["sasrek"]}, "unknown model 'sasrek'; did you mean 'sasrec'"),
        ("optimizers", {"arms": ["usgm-papr"]}, "unknown arm 'usgm-papr'; did you mean 'usgm-paper'"),
        ("optimizers", {"grids": ["rate"]}, "unknown grid 'rate'"),
        ("optimizers", {"model": "popularity"}, "counts and is not trained"),
        ("optimizers", {"overrides": {"dropuot": 0.1}}, "did you mean 'dropout'"),
        ("optimizers", {"draws": 0}, "draws is 0; it should be greater than or equal to 1"),
        ("optimizers", {"overrides": {"headdim": 48}}, "headdim is 48"),
        ("generative", {"overrides": {"heads": 3}}, "heads is 3; it should divide d_model, which is 32"),
        ("generative", {"overrides": {"positions": 10}}, "positions is 10; prompt_tokens 64"),
        ("generative", {"overrides": {"fewer": [3]}}, "fewer has 3; it should divide length"),
        ("generative", {"overrides": {"fewer": [0]}}, r"fewer\[0\] is 0"),
        ("generative", {"models": ["sasrec"]}, "unknown model that writes queries 'sasrec'"),
        ("generative", {"overrides": {"beems": 3}}, "unknown override 'beems'; did you mean 'beams'"),
        ("generative", {"models": ["bm25-last"], "overrides": {"epochs": 3}}, "bm25-last: unknown override 'epochs'"),
        ("generative", PRETRAINED | {"overrides": {"d_model": 32}}, "gpt4rec: unknown override 'd_model'"),
        ("generative", {"seeds": [2**32]}, r"seeds\[0\] is 4294967296"),
        ("generative", {"sources": {"gpt4rec": "scratch:gpt5"}}, "unknown source 'scratch:gpt5'"),
        ("generative", {"sources": {"gpt": "gpt2"}}, "unknown model of sources 'gpt'; did you mean 'gpt4rec'"),
        ("llamarec", {"overrides": {"heads": 3}}, "heads is 3; it should divide d_model, which is 64"),
        ("llamarec", {"overrides": {"heads": 64}}, "heads is 64 with d_model 64; the width of a head should be even"),
        ("llamarec", {"overrides": {"n_layers": 1}}, "n_layers is 1; it should be at least 2"),
        ("llamarec", {"overrides": {"positions": 100}}, "positions is 100; prompt_tokens 128"),
        (
            "llamarec",
            {"overrides": {"d_model": 32}},
            "d_model is 32; it should be at least that of sasrec, which is 64",
        ),
        ("llamarec", {"overrides": {"prompt_tokens": 40}}, "prompt_tokens is 40; .* need 44"),
        ("llamarec", {"overrides": {"candidates": 27}}, "candidates is 27; it should be less than or equal to 26"),
        ("llamarec", {"retrievers": ["markov"]}, "'markov' only counts"),
        ("llamarec", {"overrides": {"orderz": 3}}, "unknown override 'orderz'; did you mean 'order"),
        ("llamarec", {"overrides": {"prompt": "llamarec"}}, "title tokens go with scratch:titles"),
        ("llamarec", {"source": "gpt2", "overrides": {"prompt": "titles"}}, "title tokens go with"),
        ("llamarec", {"source": "gpt2", "overrides": {"heads": 2}}, "unknown override 'heads'"),
        ("llamarec", {"source": "nf4:scratch:titles"}, "four bits are for pretrained weights"),
        ("llamarec", {"source": "nf4:some/model", "overrides": {"lora_rank": 0}}, "four-bit weights are not trained"),
        ("orpo", {"arms": ["orpo-multy"]}, "unknown arm 'orpo-multy'; did you mean 'orpo-multi'"),
        ("orpo", {"tuning": {"objective": "sft"}}, "unknown override 'objective'"),
        ("orpo", {"retriever": "popularity"}, "only counts"),
        ("llamarec", {"retriever_overrides": {"n_heads": 3}}, "n_heads is 3"),
        ("orpo", {"tuning": {"schedule": "linaer"}}, "schedule is 'linaer'; did you mean 'linear'"),
        ("scaling", {"lengths": [10**12]}, r"lengths\[0\] is 1000000000000"),
        ("scaling", {"catalogues": [3000, 9]}, r"catalogues\[1\] is 9; it should be greater than or equal to 10"),
        ("latency", {"paths": ["graph"]}, "unknown path on cpu 'graph'"),
        ("ablation", {"epochs": -1}, "epochs is -1"),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_runs(
    experiment: str, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SeqRecError, match=message):
        get(experiment).plan(parameters_of(experiment) | change)


@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if "seeds" in parameters_of(name)])
def test_a_seed_that_is_given_twice_is_one(experiment: str) -> None:
    given, plan = parameters_of(experiment), get(experiment).plan
    assert plan(given | {"seeds": [3, 3]}) == plan(given | {"seeds": [3]})


def test_an_override_reaches_each_model_that_has_it_and_no_other() -> None:
    given = parameters_of("accuracy") | {"models": ["popularity", "sasrec", "mamba4rec"], "seeds": [0]}
    plan = get("accuracy").plan
    counted, sasrec, mamba = plan(given | {"overrides": {"n_heads": 4}})
    assert sasrec.architecture["n_heads"] == 4
    assert [counted, mamba] == [config for config in plan(given) if config.model != "sasrec"]


@pytest.mark.parametrize("model", [name for name in MODELS if "+" not in name])
def test_every_architecture_that_passes_can_be_built_and_run(model: str) -> None:
    import torch

    rng, built = np.random.default_rng(0), 0
    few = {"d_model": (1, 2, 3, 4, 6, 8), "n_layers": (1, 2), "n_heads": (1, 2, 3, 4), "d_conv": (1, 2, 3, 4, 5)}
    few |= {"d_state": (1, 2, 5), "expand": (1, 2, 3), "headdim": (1, 2, 3, 4, 8)}
    for _ in range(60):
        drawn = {name: int(rng.choice(values)) for name, values in few.items() if name in MODELS[model].architecture}
        try:
            architecture = check_architecture(model, {**MODELS[model].architecture, **drawn})
        except SeqRecError:
            with pytest.raises(ValueError, match=r"."):
                build(model, 9, 7, {**MODELS[model].architecture, **drawn})
            continue
        net = build(model, 9, 7, architecture).eval()
        scores = net.score(torch.tensor([[1, 2, 3, 4, 5], [6, 7, 0, 0, 0]]), torch.tensor([5, 2]))
        assert bool(torch.isfinite(scores[:, 1:]).all())
        built += 1
    assert built > 5


def test_values_stay_as_they_are_but_for_whole_fractions_and_lists() -> None:
    architecture, training = resolve("demo", "sasrec", 0, {"dropout": 0, "clip": 3, "epochs": 2})
    assert [type(value) for value in (architecture["dropout"], training.clip, training.epochs)] == [float, float, int]

    @dataclass(frozen=True)
    class Config(Checked):
        sizes: Annotated[tuple[Count, ...], *Several]
        share: Part = 0.5
        seed: Seed = 0

    listed: Any = [2, 1, 2]
    assert plain(Config(listed)) == {"sizes": [2, 1], "share": 0.5, "seed": 0}
    assert Config((1,), seed=2**64 - 1).seed == 2**64 - 1
    with pytest.raises(SeqRecError, match=r"sizes is \[\]; it should have at least 1 item"):
        Config(listed[:0])


def test_a_plan_is_told_its_parameters_checked_and_the_others_as_they_are() -> None:
    @plans(seeds=Annotated[list[Seed], *Several])
    def plan(parameters: Any) -> list[Any]:
        return [parameters["other"], *parameters["seeds"], 1]

    assert plan({"seeds": (1, 2, 2), "other": "x"}) == ["x", 1, 2]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, "{", "", "\x00", "[1, 2,]"])
def test_a_json_file_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SeqRecError, match=r"a.json: cannot be read as JSON .*; restore it"):
        read_json(path, "restore it")
