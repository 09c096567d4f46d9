"""What the optimizer study compares: the arms of Figure 3, the grids that tune them and test their robustness, and the
runs that a page plans of them.

A run is defined by its configuration alone. An arm's tuned value is the one with the least
validation loss on its grid, at the study's first seed (of those within 0.001, the smallest); every tuned arm has a
grid of the same size. The page shows each grid and whether the value used here is still its best.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from seqrec_lib.errors import SeqRecError
from seqrec_lib.models import COUNTED
from seqrec_lib.train.recipes import TrainingConfig, overrides_by_model, resolve
from seqrec_lib.validation import AnyNames, Checked, Count, Seed, Seeds, Settings, plans, refuse_unknown


@dataclass(frozen=True)
class Arm:
    """One way to train: see `Config`; ``training`` are overrides of the recipe, ``model`` is trained instead of the
    page's if not ""."""

    label: str
    optimizer: Mapping[str, Any]
    batching: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    kind: Literal["train", "noise"] = "train"
    model: str = ""


@dataclass(frozen=True)
class Grid:
    """Arms that differ in one or two settings.

    tunes: the arm whose value this grid decides, or "" for a test of robustness; axes: names of the settings; points:
    (values, arm); full: trains for as many epochs as the arms do, not for the page's ``grid_epochs``.
    """

    title: str
    axes: tuple[str, ...]
    points: tuple[tuple[tuple[float, ...], Arm], ...]
    tunes: str = ""
    full: bool = False

    @property
    def model(self) -> str:
        """The model that all its points train instead of the page's, or ""."""
        return self.points[0][1].model


PAPER: dict[str, Any] = {"rule": "paper", "lambda_": 2.0}
# share: noise that the rule tolerates, in units of the signal: at 1 it asks for a third of an epoch.
NOISE: dict[str, Any] = {"rule": "noise", "lambda_": 2.0, "share": 8.0}
LARGE = 8  # micro-batches of the large batch
TUNED: dict[str, float] = {
    "adam": 3e-3,
    "adam-large": 3e-3,
    "adamw-cosine": 1e-2,
    "sgd": 1.0,
    "usgm": 100.0,
    "usgm-literal": 30.0,
    "usgm-paper": 3.0,
    "usgm-noise": 3.0,
    "usgm-adam": 1e-2,
    "sasrec-adamw": 3e-3,
}


def adam(lr: float, label: str = "Adam") -> Arm:
    """At a constant rate (AdamW without decay), as the study's recipes use it."""
    return Arm(label, {"name": "adamw"}, training={"learning_rate": lr})


def adam_large(lr: float) -> Arm:
    return Arm("Adam, large batch", {"name": "adamw"}, {"rule": "fixed", "start": LARGE}, {"learning_rate": lr})


def adamw_cosine(lr: float) -> Arm:
    decayed = {"learning_rate": lr, "weight_decay": 0.01, "schedule": "cosine"}
    return Arm("AdamW, cosine", {"name": "adamw"}, training=decayed)


def sgd(lr: float) -> Arm:
    return Arm("SGD", {"name": "sgd", "lr": lr})


def usgm(D: float, lr: float = 1.0, label: str = "USGM", **batching: Any) -> Arm:
    """Algorithm 1, without projection."""
    return Arm(label, {"name": "usgm", "lr": lr, "D": D}, batching)


def usgm_paper(lr: float) -> Arm:
    """Algorithm 1 with the paper's rule for the batch, at the D that was chosen without one."""
    return usgm(TUNED["usgm"], lr, "USGM, paper's batching", **PAPER)


def usgm_noise(lr: float) -> Arm:
    """Algorithm 1 with the rule from noise and signal, at the D that was chosen without one."""
    return usgm(TUNED["usgm"], lr, "USGM, noise rule", **NOISE)


def usgm_literal(D: float) -> Arm:
    """Algorithm 1 as it is written: H_0 = 0, on the ball of diameter D around the start."""
    return Arm("USGM from H = 0", {"name": "usgm", "lr": "inf", "D": D, "radius": D / 2})


def usgm_adam(lr: float, D: float = 10.0) -> Arm:
    return Arm("USGM, Adam's norm", {"name": "usgm", "lr": lr, "D": D, "norm": "adam"})


def probing(lr: float = 1e-4, label: str = "Probing USGM", **batching: Any) -> Arm:
    """The variant that measures its rate and its distance."""
    return Arm(label, {"name": "probing", "lr": lr}, batching)


def _sasrec(arm: Arm) -> Arm:
    return replace(arm, label=f"{arm.label} (SASRec)", model="sasrec")


ARMS: dict[str, Arm] = {
    "adam-default": adam(1e-3, "Adam, default"),
    "adam": adam(TUNED["adam"], "Adam, tuned"),
    "adam-large": adam_large(TUNED["adam-large"]),
    "adamw-cosine": adamw_cosine(TUNED["adamw-cosine"]),
    "sgd": sgd(TUNED["sgd"]),
    "usgm": usgm(TUNED["usgm"]),
    "usgm-literal": usgm_literal(TUNED["usgm-literal"]),
    "usgm-paper": usgm_paper(TUNED["usgm-paper"]),
    "usgm-noise": usgm_noise(TUNED["usgm-noise"]),
    "usgm-adam": usgm_adam(TUNED["usgm-adam"]),
    "probing": probing(),
    "probing-noise": probing(label="Probing USGM, noise rule", **NOISE),
    "sasrec-adamw": _sasrec(adamw_cosine(TUNED["sasrec-adamw"])),
    "sasrec-probing": _sasrec(probing()),
}

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
RATES_OF_SGD = (0.1, 0.3, 1.0, 3.0, 10.0)
WIDE = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
DISTANCES = (0.1, 1.0, 10.0, 100.0)
NEAR = (1e-3, 3e-3, 1e-2)  # for data on which five rates are too dear
LAMBDAS = (1.25, 2.0, 8.0)
TOKENS = (400, 1600, 6400)
SHARES = (2.0, 8.0, 32.0, 128.0)


def _line(
    title: str, axis: str, values: Iterable[float], make: Any, tunes: str = "", full: bool = False, model: str = ""
) -> Grid:
    points = tuple(((value,), replace(make(value), model=model)) for value in values)
    return Grid(title, (axis,), points, tunes, full or bool(tunes))


def _plane(title: str, make: Any, model: str = "") -> Grid:
    points = tuple(((lr, D), replace(make(lr, D), model=model)) for lr in (1e-4, 1e-2, 1.0) for D in DISTANCES)
    return Grid(title, ("lr0", "D"), points)


GRIDS: dict[str, Grid] = {
    "adam": _line("Adam", "lr", RATES, adam, "adam"),
    "adam-large": _line("Adam, large batch", "lr", (1e-3, 3e-3, 1e-2, 3e-2, 1e-1), adam_large, "adam-large"),
    "adamw-cosine": _line("AdamW, cosine", "lr", RATES, adamw_cosine, "adamw-cosine"),
    "sgd": _line("SGD", "lr", RATES_OF_SGD, sgd, "sgd"),
    "usgm": _line("USGM, lr0 = 1", "D", (10.0, 30.0, 100.0, 300.0, 1000.0), usgm, "usgm"),
    "usgm-literal": _line("USGM from H = 0", "D", (3.0, 10.0, 30.0, 100.0, 300.0), usgm_literal, "usgm-literal"),
    "usgm-adam": _line("USGM, Adam's norm, D = 10", "lr0", WIDE, usgm_adam, "usgm-adam"),
    "adam-wide": _line("Adam, short runs", "lr", WIDE, adam),
    "usgm-lr0": _line("USGM, D = 10", "lr0", (*WIDE, 10.0, 100.0), lambda lr: usgm(10.0, lr)),
    "usgm-wide": _line("USGM, lr0 = 1, short runs", "D", (*DISTANCES, 1e3, 1e4), usgm),
    "usgm-paper": _line("USGM, paper's batching, D = 100", "lr0", RATES_OF_SGD, usgm_paper, "usgm-paper"),
    "usgm-noise": _line("USGM, noise rule, D = 100", "lr0", RATES_OF_SGD, usgm_noise, "usgm-noise"),
    "probing-lr0": _line("Probing USGM", "lr0", (1e-8, 1e-6, 1e-4), probing, full=True),
    "lambda-paper": _line("USGM, paper's batching", "lambda", LAMBDAS, lambda x: usgm(10.0, **PAPER | {"lambda_": x})),
    "lambda-noise": _line("USGM, noise rule", "lambda", LAMBDAS, lambda x: usgm(10.0, **NOISE | {"lambda_": x})),
    "b0-paper": _line(
        "USGM, paper's batching", "B0", TOKENS, lambda b: replace(usgm(10.0, **PAPER), training={"tokens_per_batch": b})
    ),
    "b0-noise": _line(
        "USGM, noise rule", "B0", TOKENS, lambda b: replace(usgm(10.0, **NOISE), training={"tokens_per_batch": b})
    ),
    "share": _line("Probing USGM, noise rule", "share", SHARES, lambda x: probing(**NOISE | {"share": x}), full=True),
    "plane-usgm": _plane("USGM", lambda lr, D: usgm(D, lr)),
    "plane-adam-norm": _plane("USGM, Adam's norm", usgm_adam),
    "sasrec-adamw": _line("AdamW, cosine", "lr", RATES, adamw_cosine, "sasrec-adamw", model="sasrec"),
    "sasrec-probing": _line("Probing USGM", "lr0", (1e-8, 1e-4), probing, full=True, model="sasrec"),
    "plane-usgm-sasrec": _plane("USGM", lambda lr, D: usgm(D, lr), "sasrec"),
    "adamw-near": _line("AdamW, cosine", "lr", NEAR, adamw_cosine, full=True),
    "sasrec-adamw-near": _line("AdamW, cosine", "lr", NEAR, adamw_cosine, full=True, model="sasrec"),
}
# Grids of the variant without a rate to tune, each with the grids of a tuned Adam for the same model: it stands beside
# the first that a page has.
WITHOUT_TUNING: dict[str, tuple[str, ...]] = {
    "probing-lr0": ("adam", "adamw-near"),
    "sasrec-probing": ("sasrec-adamw", "sasrec-adamw-near"),
}


@dataclass(frozen=True)
class Config(Checked):
    """One run.

    Attributes:
        optimizer: ``name`` (adamw | sgd | usgm | probing) and its settings; AdamW's are in ``training``.
        batching: ``rule`` and settings of `AdaptiveBatchSize`; empty: one batch a step. Of kind "noise": ``draws``.
    """

    dataset: str
    model: str
    seed: Seed
    kind: Literal["train", "noise"]
    optimizer: dict[str, Any]
    batching: dict[str, Any] = field(default_factory=dict)
    architecture: dict[str, Any] = field(default_factory=dict)
    training: TrainingConfig | None = None


@dataclass(frozen=True)
class Cell:
    """Where a run stands on the page: an arm by name, or a point of a grid."""

    config: Config
    arm: str = ""
    grid: str = ""
    values: tuple[float, ...] = ()


@plans(
    dataset=str,
    model=str,
    arms=AnyNames,
    grids=AnyNames,
    seeds=Seeds,
    measure_beta=bool,
    overrides=Settings,
    **dict.fromkeys(("epochs", "grid_epochs", "beta_epochs", "draws"), Count),
)
def cells(parameters: Mapping[str, Any]) -> list[Cell]:
    """Everything that the page shows, with the run behind it; two places may rest on one run."""
    from seqrec_lib.data import registry

    registry.get(parameters["dataset"])
    refuse_unknown(parameters["arms"], ARMS, "arm")
    refuse_unknown(parameters["grids"], GRIDS, "grid")
    seeds, page = parameters["seeds"], parameters["model"]
    arms = [ARMS[name] for name in parameters["arms"]]
    arms += [arm for name in parameters["grids"] for _, arm in GRIDS[name].points]
    models = [arm.model or page for arm in arms] + ([page] if parameters["measure_beta"] else [])
    if counted := [model for model in models if model in COUNTED]:
        raise SeqRecError(f"model {counted[0]!r} counts and is not trained; use a model that is")
    own = overrides_by_model(models, parameters["overrides"])

    def config(arm: Arm, seed: int, epochs: str) -> Config:
        model = arm.model or page
        overrides = {**arm.training, **own[model], "epochs": parameters[epochs], "patience": 0}
        architecture, training = resolve(parameters["dataset"], model, seed, overrides)
        assert training is not None
        if arm.optimizer["name"] != "adamw":  # AdamW's settings decide nothing here
            training = replace(training, learning_rate=1e-3, weight_decay=0.0)
        training = replace(training, precision="fp32", warmup_steps=0)
        if training.negatives and arm.kind == "noise":
            raise SeqRecError(f"negatives is {training.negatives}; beta is measured on the exact loss: 0")
        optimizer, batching = dict(arm.optimizer), dict(arm.batching)
        return Config(parameters["dataset"], model, seed, arm.kind, optimizer, batching, architecture, training)

    found = [Cell(config(ARMS[name], seed, "epochs"), arm=name) for seed in seeds for name in parameters["arms"]]
    found += [
        Cell(config(arm, seeds[0], "epochs" if GRIDS[grid].full else "grid_epochs"), grid=grid, values=values)
        for grid in parameters["grids"]
        for values, arm in GRIDS[grid].points
    ]
    if parameters["measure_beta"]:
        draws = {"draws": parameters["draws"]}
        point = Arm("beta at one point", {"name": "usgm", "lr": 1.0, "D": 10.0}, draws, kind="noise")
        found.append(Cell(config(point, seeds[0], "beta_epochs")))
    return found


@plans()
def plan(parameters: Mapping[str, Any]) -> list[Config]:
    """The runs behind `cells`, each once: arms by seed, then grids, then the measurement of beta."""
    return [cell.config for cell in cells(parameters)]
