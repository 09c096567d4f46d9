"""The latency and scaling pages from made-up timings: numbers, verdicts, crossings, and what shows without a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from seqrec_lib.evaluate.statistics import Interval
from seqrec_lib.report import latency, scaling
from seqrec_lib.report.frames import frame
from seqrec_lib.report.timings import Timings, newest_on
from seqrec_lib.results import RunStore
from tests.fakes import make_record

MEDIANS = {"sasrec": 1000.0, "mamba4rec": 500.0, "2mamba4rec": 250.0, "hydra4rec": 100.0}


def make_timings(factor: float = 1.0, dataset: str = "ml-1m", **module: float) -> Timings:
    """Timings of 9 processes with 2 blocks; ``factor`` multiplies Mamba4Rec's, ``module`` sets medians of that path."""
    rng = np.random.default_rng(0)
    rows = []
    drift = np.exp(0.3 * rng.normal(size=(9, 2)))
    for model, median in MEDIANS.items():
        paths = {"served": median, "module": module.get(model, 2 * median), "step": 50.0}
        if model == "2mamba4rec":
            paths["again"] = median
        for path, value in paths.items():
            value *= factor if model == "mamba4rec" else 1.0
            for process in range(9):
                for block in range(2):
                    noise = np.exp(0.05 * rng.normal(size=5))
                    for time in value * drift[process, block] * noise:
                        stages = {"encode": 0.8 * time, "score": 0.15 * time, "top_k": 0.05 * time}
                        rows.append(
                            {"model": model, "path": path, "process": process, "block": block, "length": 40} | stages
                        )
    calls = pd.DataFrame(rows)
    paper = pd.DataFrame(
        [
            {"model": m, "path": p, "mean": 1.2 * v + i, "trimmed_mean": v + i, "removed": 0.05}
            for m, v in MEDIANS.items()
            for p in ("served", "module")
            for i in range(30)
        ]
    )
    batches = pd.DataFrame([{"model": "sasrec", "size": s, "process": 0, "user": 1000.0 / s} for s in (1, 8)])
    config = {
        "dataset": dataset, "models": list(MEDIANS), "processes": 9, "blocks": 2, "block_users": 5, "threads": 1,
        "max_length": 200, "samples": 30, "sample_users": 1500,
    }  # fmt: skip
    facts = {
        f"{path}/{model}/{name}": 1.0
        for model in MEDIANS
        for path in ("served", "module", "step")
        for name in ("first_call_ms", "warm_up_calls")
    }
    record = make_record(
        experiment="latency", config=config, metrics=facts, dataset={"name": dataset, "n_items": 3416}
    )  # fmt: skip
    return Timings(record, calls, paper, batches)


def test_ratios_and_medians_come_out_as_they_went_in() -> None:
    timings = make_timings()
    assert timings.unit == "process"
    found = timings.ratio(("sasrec", "served"), ("hydra4rec", "served"))
    assert found.estimate == pytest.approx(10.0, rel=0.05)
    assert found.low < found.estimate < found.high < 1.1 * found.estimate  # the drift of 30 % is not in it
    assert timings.ratio(("llamarec", "served"), ("sasrec", "served")) is None


def test_a_request_is_compared_with_sasrecs_by_the_same_program() -> None:
    timings = make_timings()
    rows = latency.requests(timings, "served", "module").set_index(["id", "program"])
    assert len(rows) == 8
    hydra = rows.loc["hydra4rec", "compiled for serving"]
    assert hydra["times"] == pytest.approx(0.1, rel=0.05) and hydra["times low"] < hydra["times"] < hydra["times high"]
    assert rows.loc["sasrec", "PyTorch module"]["times"] == 1.0
    assert hydra["ms"] == pytest.approx(timings.median("hydra4rec", "served").estimate / 1e3)
    assert hydra["p95"] < hydra["p99"]


def test_the_faster_program_of_each_model_stands_for_it() -> None:
    rows = latency.fastest(make_timings(hydra4rec=10.0), "served", "module").set_index("id")["program"]
    assert rows["hydra4rec"] == "PyTorch module" and rows["sasrec"] == "compiled for serving" and len(rows) == 4


def test_the_papers_estimand_stands_beside_the_mean_of_all_calls() -> None:
    rows = latency.paper_protocol(make_timings(), "ml-1m").set_index(["model", "program"])
    hydra = rows.loc["Hydra4Rec", "compiled for serving"]
    assert (hydra["ms"], hydra["kept"], hydra["removed"]) == pytest.approx((0.1145, 0.1345, 0.05))
    assert hydra["paper"] == pytest.approx(0.0005 / 0.128)
    assert np.isnan(latency.printed_times("demo", "hydra4rec"))


def test_without_a_run_every_frame_is_empty() -> None:
    for found in (
        latency.setting(None), latency.requests(None, "served"), latency.fastest(None, "served"), latency.calls(None),
        latency.stages(None, "served"), latency.paper_protocol(None, "ml-1m"), latency.control(None),
        latency.batches(None), latency.warm_up(None), latency.gpu(None), latency.benchmark(None, "ml-1m"),
        latency.appendix_b(pd.DataFrame(), None, "ml-1m", RunStore()), scaling.times(None),
        scaling.growth(None, "length", "served"), scaling.ratios(None), scaling.exponents(None),
        scaling.crossings(None, scaling.WAYS), scaling.states(None), scaling.catalogues(None), scaling.selection(None),
    ):  # fmt: skip
        assert found.empty


def test_a_gpus_timings_stand_in_a_table_of_their_own(store: RunStore) -> None:
    timings = make_timings()
    calls = timings.calls[timings.calls["path"] == "served"].assign(path="graph", device=7.0)
    config = timings.record.config | {"device": "cuda", "architectures": {"sasrec": {}, "hydra4rec": {}}}
    assert newest_on("cuda", store, "latency", "ml-1m") is None
    store.save(timings.record)
    assert newest_on("cpu", store, "latency", "ml-1m") == timings.record
    older, newer = (
        replace(make_record(experiment="latency", config=config | {"blocks": n}, environment={"device": "a GPU"}),
                finished=f"2026-01-0{n}T00:00:00+00:00")
        for n in (1, 2)
    )  # fmt: skip
    for record in (newer, older):
        store.save(record)
    found = newest_on("cuda", store, "latency", "ml-1m")
    assert found is not None and found.config["blocks"] == 2
    rows = latency.gpu(replace(timings, record=found, calls=calls)).set_index("model")
    assert rows.loc["SASRec", "graph"] == pytest.approx(timings.median("sasrec", "served").estimate / 1e3)
    assert rows[["eager", "compiled"]].isna().all(axis=None)


def test_the_other_frames_show_what_they_are_about() -> None:
    timings = make_timings()
    (twice,) = latency.control(timings).to_dict("records")
    assert twice["model"] == "2Mamba4Rec" and twice["times low"] < 1 < twice["times high"] and twice["units"] == 9
    (batch,) = latency.batches(timings).to_dict("records")
    assert (batch["1"], batch["8"], batch["best"], batch["users_per_second"]) == (1.0, 0.125, "8", 8000.0)
    assert latency.stages(timings, "served")["share"].tolist() == pytest.approx([0.8] * 4, rel=0.02)
    assert latency.warm_up(timings)["first_ms"].tolist() == [1.0] * 12
    assert len(latency.calls(timings)) == len(timings.calls)
    assert latency.setting(timings).set_index("what").loc["Items of the catalogue", "value"] == "3,416"


def accuracy_runs(make: Any, length: int) -> tuple[pd.DataFrame, RunStore]:
    made = make()
    runs = frame(made.records[:3], made.configs[:3], made.store).assign(recipe=True)
    runs.loc[runs["model"] == "sasrec", "training.max_length"] = length
    return runs, made.store


def test_appendix_b_pairs_accuracy_with_the_latency_of_its_length(make: Any) -> None:
    timings = make_timings()
    served = timings.calls["path"] == "served"
    stages = ["encode", "score", "top_k"]
    long = timings.calls[served].assign(length=200, **(3 * timings.calls.loc[served, stages]))
    timings = replace(timings, calls=pd.concat([timings.calls, long, long]))
    made = [accuracy_runs(make, length) for length in (40, 200)]
    short, whole = (latency.appendix_b(runs, timings, "ml-1m", store) for runs, store in made)
    sasrec = [rows.set_index("model").loc["SASRec"] for rows in (short, whole)]
    assert sasrec[1]["ms"] == pytest.approx(3 * sasrec[0]["ms"], rel=0.05)
    assert [own["latency"] for own in sasrec] == [1.0, 1.0]
    assert sasrec[0]["ht@10 low"] < sasrec[0]["ht@10"] < sasrec[0]["ht@10 high"]
    assert (sasrec[0]["paper latency"], sasrec[0]["paper"]) == (1.0, 0.224)
    assert "Mamba4Rec" not in set(short["model"])  # its accuracy was not run


def test_appendix_b_has_no_row_where_no_run_of_the_recipe_is_there(make: Any) -> None:
    runs, store = accuracy_runs(make, 40)
    assert latency.appendix_b(runs.assign(recipe=False), make_timings(), "ml-1m", store).empty


def test_language_models_have_the_denominator_of_their_own_record() -> None:
    contestants = [
        {"model": "sasrec", "path": "served", "parameters": 3, "block_milliseconds": [1.0, 2.0, 4.0]},
        {"model": "gpt4rec", "path": "free", "parameters": 9, "block_milliseconds": [100.0, 200.0, 400.0]},
        {"model": "gpt4rec", "path": "paper", "parameters": 99, "block_milliseconds": [3000.0, 6000.0]},
    ]
    record = {"datasets": {"ml-1m": {"contestants": [own | {"tokens_per_second": None} for own in contestants]}}}
    rows = latency.benchmark(record, "ml-1m")
    assert rows["times"].tolist() == pytest.approx([1.0, 100.0, 3000.0])
    assert rows["paper"].tolist() == pytest.approx([1.0, 3.23 / 0.128, 3.23 / 0.128])
    assert latency.benchmark(record, "ml-100k").empty


def make_scaling() -> scaling.Scaling:
    """SASRec takes n^2 / 100, its cache n / 10, the others n, and 20 for one more event; 5 rounds alike."""
    rows = []
    for turn in range(5):
        for n in (10, 100, 1000):
            laws = {
                ("length", "sasrec", "module"): n**2 / 100,
                ("length", "sasrec", "served"): n**2 / 100,
                ("event", "sasrec", "step"): n / 10,
            }
            for model in ("mamba4rec", "hydra4rec"):
                laws |= {("length", model, "module"): 1.0 * n, ("length", model, "served"): 2.0 * n}
                laws[("event", model, "step")] = 20.0
            rows += [(*cell, n, turn, value * (1 + 0.01 * turn)) for cell, value in laws.items()]
        for n in (1000, 26_355, 211_452):
            for model, more in (("sasrec", 100.0), ("mamba4rec", 10.0), ("hydra4rec", 1.0)):
                rows += [("catalogue", model, path, n, turn, n / 100 + more) for path in ("served", "module")]
            rows.append(("catalogue", "any", "scores and top 10", n, turn, n / 100))
    times = pd.DataFrame(rows, columns=["kind", "model", "path", "size", "round", "time"])
    sizes = {"sasrec": lambda n: 1024 * n, "mamba4rec": lambda n: 18_432, "hydra4rec": lambda n: 21_784}
    memory = pd.DataFrame(
        [
            {"model": m, "path": "served", "length": n, "peak": 0, "state": size(n)}
            for m, size in sizes.items()
            for n in (10, 100, 1000)
        ]
    )
    config = {"dataset": "demo", "models": ["sasrec", "mamba4rec", "hydra4rec"], "catalogue_length": 50}
    return scaling.Scaling(make_record(experiment="scaling", config=config), times, memory)


def test_exponents_and_crossings_are_those_of_the_laws() -> None:
    run = make_scaling()
    square, line = scaling.exponent(run.curve("length", "sasrec", "module")), scaling.exponent(
        run.curve("length", "hydra4rec", "module")
    )  # fmt: skip
    assert square is not None and square.estimate == pytest.approx(2.0)
    assert line is not None and line.estimate == pytest.approx(1.0)
    crossing = scaling.crossing(run.curve("length", "sasrec", "module"), run.curve("length", "mamba4rec", "module"))
    assert isinstance(crossing, Interval) and crossing.estimate == pytest.approx(100.0, rel=0.01)
    ways = scaling.crossings(run, scaling.WAYS)
    cache = ways[ways["way"].str.contains("with a cache")]
    assert cache["items"].tolist() == pytest.approx([200.0, 200.0])  # n / 10 = 20
    assert set(ways["seen"]) == {"crosses"}
    again = scaling.crossing(run.curve("event", "mamba4rec", "step"), run.curve("length", "sasrec", "module"))
    assert again is None  # the other way round: never slower from there on
    assert scaling.exponent(run.curve("batch", "sasrec", "module")) is None


def test_the_faster_program_is_chosen_at_each_size() -> None:
    run = make_scaling()
    times = run.times.copy()
    chosen = (times["model"] == "sasrec") & (times["path"] == "served") & (times["kind"] == "length")
    times.loc[chosen & (times["size"] == 10), "time"] = 0.5  # 1 by the module
    times.loc[chosen & (times["size"] == 1000), "time"] = 1e6  # 10,000 by the module
    run = replace(run, times=times)
    best = run.curve("length", "sasrec", scaling.BEST)
    assert best.median(axis=1).to_dict() == pytest.approx({10: 0.5, 100: 102.0, 1000: 10_200.0})
    assert list(best.columns) == list(range(5))
    pd.testing.assert_frame_equal(best.loc[[1000]], run.curve("length", "sasrec", "module").loc[[1000]])
    assert run.curve("batch", "sasrec", scaling.BEST).empty
    ratios = scaling.ratios(run).set_index(["model", "size"])["times"]
    assert ratios["Mamba4Rec", 1000] == pytest.approx(10.0)  # both by modules: n^2 / 100 over n
    first = scaling.crossings(run, scaling.WAYS[:1]).iloc[0]
    assert first[["items", "low", "high"]].tolist() == pytest.approx([100.0] * 3), "served alone would cross earlier"


def test_an_exponent_is_of_the_upper_half_of_the_sizes_as_records_hold_them() -> None:
    sizes = np.array([3_000, 10_000, 100_000, 300_000, 1_000_000], np.int32)  # whose products overflow
    laws = np.where(sizes < 50_000, 1.0, (sizes / 50_000.0) ** 2)
    bent = laws[:, None] * np.ones(4)
    bent[-2] *= 3.0  # a point between the ends that the last two alone would make much of
    found = scaling.exponent(pd.DataFrame(bent, index=pd.Index(sizes, dtype=np.int32)))
    upper = sizes[2:].astype(float)
    assert found.estimate == pytest.approx(np.polyfit(np.log(upper), np.log(bent[2:, 0]), 1)[0])


def test_a_crossing_lies_within_its_interval_also_where_some_rounds_do_not_cross() -> None:
    rng = np.random.default_rng(1)
    sizes = pd.Index([50, 100, 200])
    flat = pd.DataFrame(np.ones((3, 20)), index=sizes)
    rising = pd.DataFrame(np.array([0.9, 1.03, 1.5])[:, None] * rng.lognormal(sigma=0.2, size=(3, 20)), index=sizes)
    each = [scaling.crossing(rising[[i]], flat[[i]]) for i in rising.columns]
    found = scaling.crossing(rising, flat)
    assert any(one is None for one in each) and found is not None
    assert found.low is not None and found.high is not None and found.low <= found.estimate <= found.high


def test_a_hundred_million_states_are_counted_from_measured_sizes() -> None:
    states = scaling.states(make_scaling()).set_index("model")
    assert states.loc["Mamba4Rec", ["10", "1000"]].tolist() == [18.0, 18.0]
    assert states.loc["Mamba4Rec", "all_users"] == pytest.approx(18_432e8 / 2**40)
    assert states.loc["SASRec", "all_users"] == pytest.approx(1_024_000e8 / 2**40)
    assert states["even"].tolist()[1:] == pytest.approx([18.0, 21.27], rel=0.01) and np.isnan(states["even"].iloc[0])


def test_the_papers_catalogues_are_ratios_beside_the_papers() -> None:
    rows = scaling.catalogues(make_scaling()).set_index(["model", "items"])
    hydra = rows.loc["Hydra4Rec", 26_355]
    assert hydra["module times"] == hydra["best times"] == pytest.approx((263.55 + 1) / (263.55 + 100))
    assert hydra["paper"] == pytest.approx(0.0037 / 0.129)
    shares = scaling.selection(make_scaling()).set_index("items")
    assert shares.loc[26_355, "SASRec"] == pytest.approx(263.55 / 363.55)


def test_curves_are_medians_with_quartiles() -> None:
    rows = scaling.growth(make_scaling(), "length", scaling.BEST)
    last = rows[rows["model"] == "SASRec"].iloc[-1]
    assert last[["size", "ms", "low", "high"]].tolist() == pytest.approx([1000, 10.2, 10.1, 10.3])
    exponents = scaling.exponents(make_scaling()).set_index("model")
    assert exponents.loc["SASRec", "read"] == pytest.approx(2.0)
    assert len(scaling.times(make_scaling())) == len(make_scaling().times)
