"""The latency and scaling pages from made-up timings: numbers, verdicts, crossings, and what shows without a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from seqrec_lib.evaluate.statistics import Interval
from seqrec_lib.latency.statistics import simulate_coverage
from seqrec_lib.report import appendix_b, latency, scaling
from seqrec_lib.report.timings import Timings, on_gpu
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
    return Timings(record, calls.assign(total=calls[["encode", "score", "top_k"]].sum(axis=1)), paper, batches)


def test_ratios_and_medians_come_out_as_they_went_in() -> None:
    timings = make_timings()
    assert timings.unit == "process"
    found = timings.ratio(("sasrec", "served"), ("hydra4rec", "served"))
    assert found is not None and found.low is not None and found.high is not None
    assert found.estimate == pytest.approx(10.0, rel=0.05)
    assert found.low < found.estimate < found.high < 1.1 * found.estimate  # the drift of 30 % is not in it
    assert timings.ratio(("llamarec", "served"), ("sasrec", "served")) is None
    text = latency.ratio_table(timings, "ml-1m").text
    assert "SASRec over Hydra4Rec" in text and "64.0" in text and "256" in text  # the paper's 0.128 / 0.002, / 0.0005
    service = latency.service_table(timings, "served").text
    assert "none removed" in service and "by process" in service


def test_the_papers_column_stands_beside_the_mean_of_all_calls() -> None:
    text = latency.paper_table(make_timings(), "ml-1m").text
    row = next(line for line in text.splitlines() if line.startswith("Hydra4Rec, as served"))
    assert "0.115" in row and "0.135" in row and "5.0%" in row and "0.00391" in row  # 0.0005 / 0.128


def test_goals_are_judged_at_their_size_only() -> None:
    assert latency.goals(make_timings()).text.count("reached") == 6
    assert "missed" in latency.goals(make_timings(factor=10.0)).text
    assert "MovieLens 1M" in latency.goals(make_timings(dataset="demo")).text
    assert "reached" not in latency.goals(make_timings(dataset="demo")).text


def test_without_a_run_everything_says_so() -> None:
    for piece in (
        latency.setting(None), latency.service_table(None, "served"), latency.stage_table(None, "served"),
        latency.paper_table(None, "ml-1m"), latency.ratio_table(None, "ml-1m"), latency.control(None),
        latency.batch_table(None), latency.warm_up_table(None), latency.goals(None),
        latency.cuda_table(None),
        scaling.exponent_table(None), scaling.crossing_table(None), scaling.gpu_setting(None),
        scaling.crossing_table(None, scaling.GPU_WAYS),
        scaling.state_table(None), scaling.state_paragraph(None), scaling.paper_catalogues(None),
        scaling.selection_share(None), scaling.sasrec_test(None),
    ):  # fmt: skip
        assert "not run" in piece.text
    assert latency.ecdf_figure(None) is None and scaling.growth_figure(None, []) is None
    assert appendix_b.figure(appendix_b.points([], None, "ml-1m")) is None


def test_a_gpus_timings_stand_in_a_table_of_their_own(tmp_path: Path) -> None:
    timings = make_timings()
    calls = timings.calls[timings.calls["path"] == "served"].assign(path="graph", device=7.0)
    config = timings.record.config | {"device": "cuda", "architectures": {"sasrec": {}, "hydra4rec": {}}}
    store = RunStore(tmp_path / "new", tmp_path / "published")
    assert on_gpu(store, "latency", "ml-1m") is None
    store.save(timings.record)
    older, newer = (
        replace(make_record(experiment="latency", config=config | {"blocks": n}, environment={"device": "a GPU"}),
                finished=f"2026-01-0{n}T00:00:00+00:00")
        for n in (1, 2)
    )  # fmt: skip
    for record in (newer, older):
        store.save(record)
    found = on_gpu(store, "latency", "ml-1m")
    assert found is not None and found.config["blocks"] == 2
    text = latency.cuda_table(replace(timings, record=found, calls=calls)).text
    assert "a GPU, 90 requests for each" in text and "0.0070" in text and text.count("not run") == 4


def test_the_other_pieces_show_what_they_are_about() -> None:
    timings = make_timings()
    assert "entered twice" in latency.control(timings).text
    assert "8" in latency.batch_table(timings).text and "8,000" in latency.batch_table(timings).text
    assert "80%" in latency.stage_table(timings, "served").text
    assert "Hydra4Rec median" in latency.ecdf_alt(timings)
    assert latency.ecdf_figure(timings) is not None
    assert len(latency.ecdf_numbers(timings)) == 4
    assert "First call" in latency.warm_up_table(timings).text
    assert "nominal coverage 95" in latency.coverage_table(simulate_coverage(repetitions=3)).text


def test_appendix_b_shows_both_intervals_and_the_paper_hollow(make: Any) -> None:
    points = appendix_b.points(make().runs, make_timings(), "ml-1m")
    by_model = {p.model: p for p in points}
    own = by_model["sasrec"]
    assert own.latency is not None and own.latency.estimate == 1.0 and own.interval is not None
    assert by_model["mamba4rec"].accuracy is None  # not run
    assert by_model["mamba4rec"].paper_latency == pytest.approx(0.0020 / 0.128)
    assert by_model["gpt4rec"].paper_accuracy == 0.212
    assert appendix_b.figure(points) is not None
    assert "GPT4Rec, MamRec, LlamaRec" in appendix_b.waiting(points).text.replace("Mamba4Rec, ", "")
    assert "Mamba4Rec: not run (paper 0.0156, 0.303)" in appendix_b.alt(points)
    alone = [replace(point, paper_latency=None, paper_accuracy=None) for point in points]
    assert "hollow" in appendix_b.caption(points) and "hollow" not in appendix_b.caption(alone)
    runs = [own for own in make().runs if own.model == "sasrec"]
    assert "ranks with" not in appendix_b.caption(points, runs, make_timings())
    for record in runs[0].complete:
        record.config["training"]["max_length"] = 50
    assert appendix_b.caption(points, runs, make_timings()).endswith("up to 200 items; SASRec ranks with the last 50.")
    assert len(appendix_b.numbers(points)) == len(points)


def test_a_language_model_stands_in_appendix_b_with_both_intervals_or_as_not_run(make: Any) -> None:
    runs = make().runs
    writer = replace(runs[1], model="gpt4rec", label="GPT4Rec (from scratch, 0.3 M weights)", other_model=True)
    pretrained = replace(writer, label="GPT4Rec (gpt2, 124 M weights)", other_model=False)
    language = {"gpt4rec": Interval(100.0, 90.0, 110.0), "sasrec": Interval(1.0), "mamba4rec": Interval(7.0)}
    points = appendix_b.points([*runs, writer, pretrained], make_timings(), "ml-1m", benchmark=language)
    by_label = {p.label: p for p in points}
    own = by_label["GPT4Rec (from scratch, 0.3 M weights)"]
    assert own.latency == language["gpt4rec"] and own.interval is not None
    assert own.paper_latency == pytest.approx(3.23 / 0.128)
    assert by_label["GPT4Rec (gpt2, 124 M weights)"].latency is None  # the time of another model is not its own
    assert "GPT4Rec" not in by_label and "MamRec" in by_label  # the paper's point stands once, with ours
    assert "(from scratch, 0.3 M weights): 100 times SASRec's latency" in appendix_b.alt(points)
    text = appendix_b.waiting(points).text
    assert "GPT4Rec (gpt2, 124 M weights) (no latency)" in text and "0.3 M" not in text
    assert appendix_b.figure(points) is not None
    assert "Every model" in appendix_b.waiting([own]).text
    alone = {p.model: p for p in appendix_b.points(runs, None, "ml-1m", benchmark=language)}  # without a latency run
    assert alone["sasrec"].latency == Interval(1.0) and alone["mamba4rec"].latency == Interval(7.0)
    assert by_label["Mamba4Rec"].latency.estimate == pytest.approx(0.5, rel=0.05)  # the run comes first


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
    text = scaling.crossing_table(run).text
    cache = next(line for line in text.splitlines() if line.startswith("One more event, SASRec with a cache"))
    assert "200" in cache  # n / 10 = 20
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
    assert scaling.sasrec_ratios(run)[1000] == pytest.approx(10.0)  # both by modules: n^2 / 100 over n
    line = next(
        line for line in scaling.crossing_table(run).text.splitlines() if line.startswith("Read the history, the")
    )
    assert "100 (100 to 100)" in line, "by the served program alone SASRec would cross earlier"


def test_an_exponent_is_of_the_upper_half_of_the_sizes_as_records_hold_them() -> None:
    sizes = np.array([3_000, 10_000, 100_000, 300_000, 1_000_000], np.int32)  # whose products overflow
    laws = np.where(sizes < 50_000, 1.0, (sizes / 50_000.0) ** 2)
    bent = laws[:, None] * np.ones(4)
    bent[-2] *= 3.0  # a point between the ends that the last two alone would make much of
    found = scaling.exponent(pd.DataFrame(bent, index=pd.Index(sizes, dtype=np.int32)))
    upper = sizes[2:].astype(float)
    assert found is not None
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
    text = scaling.state_paragraph(make_scaling()).text
    assert "Mamba4Rec 18.0 KiB, 1.7 TiB" in text  # 18,432 bytes x 10^8 / 2^40
    assert "1,024 bytes for each item" in text
    assert "93.1 TiB at 1,000 items" in text
    assert "18 (Mamba4Rec), 21 (Hydra4Rec) items" in text


def test_the_papers_catalogues_are_ratios_beside_the_papers() -> None:
    text = scaling.paper_catalogues(make_scaling()).text
    row = next(line for line in text.splitlines() if line.startswith("Hydra4Rec, 26,355"))
    assert "0.728" in row  # (263.55 + 1) / (263.55 + 100)
    assert "0.0287" in row  # 0.0037 / 0.129
    assert "random weights" in text
    assert "72%" in scaling.selection_share(make_scaling()).text  # 263.55 / 363.55
    assert "14.7 to 64.0" in scaling.sasrec_test(make_scaling()).text
    assert "does not reach the paper's least ratio up to 1,000" in scaling.sasrec_test(make_scaling()).text


def test_figures_say_in_words_what_they_show() -> None:
    panels = [("length", "module", "Read"), ("event", "step", "One more")]
    run = make_scaling()
    assert scaling.growth_figure(run, panels) is not None
    assert len(scaling.growth_numbers(run, panels)) == 18
    assert "SASRec 0.00102 ms at 10 to 10.2 ms at 1,000" in scaling.growth_alt(run, panels)


def test_scaling_on_a_gpu_has_ways_of_its_own() -> None:
    cpu = make_scaling()
    times = cpu.times[cpu.times["path"].isin(["module", "served"])].replace({"path": {"served": "graph"}})
    record = replace(cpu.record, config=cpu.record.config | {"rounds": 5}, environment={"device": "a GPU"})
    gpu = replace(cpu, record=record, times=times)
    text = scaling.crossing_table(gpu, scaling.GPU_WAYS).text
    assert "100 (100 to 100)" in text and "200 (200 to 200)" in text  # n^2 / 100 against n and 2 n
    assert "not run" not in text and "not run" in scaling.crossing_table(gpu).text
    assert scaling.gpu_setting(gpu).text.startswith("a GPU, batch 1")
