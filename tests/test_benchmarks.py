"""What the benchmarks compute around their timings; no test asserts on seconds."""

from __future__ import annotations

import importlib
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import typer
from transformers import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
from typer.testing import CliRunner

from benchmarks import (
    conditions,
    decoding_speed,
    gpu_training,
    mixer_speed,
    query_latency,
    ranking_speed,
    recommend_speed,
    serving_speed,
    time_to_quality,
    train_speed,
)
from benchmarks.train_speed import Side, Worker, summaries, times_as_fast
from seqrec_lib.evaluate.ranking import target_ranks
from seqrec_lib.experiments import generative
from seqrec_lib.fast.resident_batches import Shape
from seqrec_lib.language.beams import Search
from seqrec_lib.models import build
from seqrec_lib.models.sasrec import SASRec
from seqrec_lib.report.rankers import LLAMA_7B
from seqrec_lib.results import RunStore
from seqrec_lib.ssm import Mamba2
from seqrec_lib.train.contracts import Progress
from tests.conftest import random_sequences

HERE = Path(train_speed.__file__).parent
PEERS = HERE / "peers"
SCRIPTS = sorted(path.stem for path in HERE.glob("*.py") if "__main__" in path.read_text())


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_what_it_measures(name: str) -> None:
    script = typer.Typer()
    script.command()(importlib.import_module(f"benchmarks.{name}").main)
    said = CliRunner().invoke(script, ["--help"])
    assert said.exit_code == 0 and "--help" in said.output
    assert f"| `{name}.py` |" in (HERE / "README.md").read_text()


def turn(targets: int, wall: float, cpu: float = 1.0) -> dict[str, float]:
    return {
        "wall": wall,
        "cpu": cpu,
        "steps": 2,
        "targets": targets,
        "positions": 100,
        "tokens": 80,
        "peak_memory_bytes": targets,
    }


def test_a_factor_is_the_median_over_rounds_of_the_rates() -> None:
    ours = [turn(100, 1.0), turn(100, 2.0), turn(100, 10.0)]  # a disturbed last round: 100, 50 and 10 a second
    theirs = [turn(50, 5.0, 10.0), turn(50, 5.0, 10.0), turn(50, 5.0, 10.0)]  # 10 a second, 5 a CPU second
    assert times_as_fast(ours, theirs) == 5.0
    assert times_as_fast(ours, theirs, "cpu") == 20.0
    with pytest.raises(ValueError, match="zip"):
        times_as_fast(ours[:2], theirs)


def test_a_row_extrapolates_what_was_not_run_and_counts_the_padding() -> None:
    facts = {"targets_per_epoch": 1000, "epoch_setup_seconds": 0.5}
    contestants = {"ours": Side("Ours", ""), "peer": Side("Peer", "", goal=3.0), "ours-fp32": Side("Fp32", "")}
    turns = {"ours": [turn(600, 1.0), turn(600, 1.0)], "peer": [turn(100, 2.0), turn(100, 2.0)]}
    rows = summaries(contestants, dict.fromkeys(contestants, facts), turns | {"ours-fp32": turns["peer"]})
    assert [row["name"] for row in rows] == ["ours", "ours-fp32", "peer"]
    ours, _, peer = rows
    assert ours["share_of_epoch"] == 1.2 and peer["share_of_epoch"] == 0.2
    assert (peer["targets_per_second"], peer["epoch_seconds"]) == (50.0, 20.5)  # 1000 targets at 50/s, and the setup
    assert (peer["padding"], peer["positions_per_target"]) == (0.2, 1.0)
    assert (peer["ours_times_as_fast"], peer["ours_fp32_times_as_fast"], peer["goal"]) == (12.0, 1.0, 3.0)


WORKER = f"""
import sys
sys.path.insert(0, {str(PEERS)!r})
from turns import Turns, settings
given = settings()
print("noise that must not reach the benchmark")
turns = Turns(targets_per_epoch=given["targets"])
while True:
    turns.step(given["targets"], 10, 8)
"""


def test_a_worker_warms_up_takes_turns_and_ends(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    with (tmp_path / "log").open("wb") as log:
        worker = Worker(
            Side("Fake", str(script), "own"), {"own": Path(sys.executable)}, {"threads": 1, "targets": 3}, tmp_path, log
        )
    facts = worker.report()
    assert facts["targets_per_epoch"] == 3 and facts["prepare_seconds"] > 0
    for clock in ("wall", "cpu", "cpu"):
        report = worker.turn(clock, 0.001)
        assert report[clock] >= 0.001
        assert report["targets"] == 3 * report["steps"] > 0
        assert report["positions"] == 10 * report["steps"] and report["tokens"] == 8 * report["steps"]
    worker.stop()
    assert worker.process.returncode == 0
    assert "noise" in (tmp_path / "log").read_text()


ANSWERER = f"""
import sys
sys.path.insert(0, {str(PEERS)!r})
from turns import answer, settings
given = settings()
answer({{"own": lambda users: [[0] * given["returned"] for _ in users]}}, 2, items=5)
"""


def answerer(folder: Path, log, returned: int) -> Worker:
    script = folder / "worker.py"
    script.write_text(ANSWERER)
    return Worker(Side("Fake", str(script)), {}, {"threads": 1, "returned": returned}, folder, log)


def test_a_worker_answers_requests_with_their_seconds(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        panel = recommend_speed.Panel(log, "cpu")
        panel.workers["ours"] = answerer(tmp_path, log, 2)
    assert panel.workers["ours"].report()["items"] == 5
    seconds = panel.ask(recommend_speed.Way("ours", "own", "Ours", None, 50), [[0], [1, 2], [3]])
    assert len(seconds) == 3 and min(seconds) >= 0
    assert panel.memory["ours"] > 0
    panel.stop()
    assert panel.workers["ours"].process.returncode == 0


def test_a_worker_that_answers_with_too_few_items_fails(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        worker = answerer(tmp_path, log, 1)
    with pytest.raises(RuntimeError, match="ended with 1"):
        worker.report()
    worker.stop()
    assert "own gave [1] items to 1 users; 2 for each" in (tmp_path / "log").read_text()


def test_recommending_is_compared_at_equal_lengths_by_rounds_and_by_best_batches() -> None:
    own = {"a-200": ("sasrec", 200, "A"), "b-50": ("sasrec", 50, "B")}
    field = [way for way in recommend_speed.ways(own, [200, 50]) if way.way not in ("model",)]
    assert {way.worker for way in field} == set(recommend_speed.workers([200, 50], own))
    slow = {"ours": 1.0, "recbole": 20.0, "rectools": 4.0}

    class Told:
        """Answers a single user in a time by side, and many in half of it for each."""

        asked: list = []  # noqa: RUF012

        def ask(self, way, requests):
            self.asked.append((way.name, requests))
            return [slow[way.worker.partition("-")[0]] * (1 if len(u) == 1 else len(u) / 2) for u in requests]

    panel = Told()
    single = recommend_speed.take_rounds(panel, field, iter([[[1]], [[2], [3]], [[4], [5]]]), 2)
    assert all(
        seconds == [[slow[name.partition("/")[0].partition("-")[0]]] * 2] * 2 for name, seconds in single.items()
    )
    for start in range(0, len(panel.asked), len(field)):  # the same requests for all in a round
        assert len({str(requests) for _, requests in panel.asked[start : start + len(field)]}) == 1
    assert [name for name, _ in panel.asked[len(field) : 2 * len(field)]] == [way.name for way in reversed(field)]

    batched = {8: recommend_speed.take_rounds(panel, field, iter([[list(range(8))]] * 2), 1)}
    facts = {way.worker: {"parameters": 7, "versions": {}, "items": 9} for way in field}
    rows = recommend_speed.summarise(field, single, batched, facts, dict.fromkeys(facts, 0))
    assert rows[0]["milliseconds"] == 1000.0 and rows[0]["calls"] == 4
    assert rows[0]["users_per_second"] == {"1": 1.0, "8": 2.0}
    pairs = recommend_speed.compare(field, single, rows, recommend_speed.GOALS)
    found = {(pair["ours"], pair["theirs"]): pair for pair in pairs}
    assert set(found) == {
        ("ours/a-200", "recbole-200/documented"),
        ("ours/a-200", "rectools-200/recommend"),
        ("ours/b-50", "recbole-50/documented"),
        ("ours/b-50", "rectools-50/recommend"),
    }
    pair = found["ours/a-200", "recbole-200/documented"]
    assert (pair["times_as_fast"], pair["times_as_fast_in_batches"], pair["goal"]) == (20.0, 20.0, 10.0)


def test_a_worker_that_fails_is_an_error(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text("raise SystemExit(3)")
    with (tmp_path / "log").open("wb") as log:
        worker = Worker(Side("Fake", str(script)), {}, {"threads": 1}, tmp_path, log)
    with pytest.raises(RuntimeError, match="ended with 3"):
        worker.report()
    worker.stop()


def test_the_export_keeps_users_and_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = random_sequences(3, n_users=4)
    monkeypatch.setattr("seqrec_lib.data.load", lambda name: sequences)
    path = train_speed.export("tiny", tmp_path)
    assert path == tmp_path / "tiny" / "tiny.inter"
    header, *lines = path.read_text().splitlines()
    assert header == "user_id:token\titem_id:token\ttimestamp:float"
    rows = np.array([[int(x) for x in line.split("\t")] for line in lines])
    assert (rows[:, 1] == sequences.items).all()
    for user in range(4):
        own = rows[rows[:, 0] == user + 1]
        assert own[:, 2].tolist() == list(range(sequences.lengths[user]))


def test_the_peers_get_our_positions_per_step() -> None:
    sides = train_speed.sides(1600, 200, 256)
    assert sides["rectools"].settings["rows_per_batch"] == 8
    assert sides["recbole"].settings["rows_per_batch"] == 256
    assert all((PEERS / side.worker).is_file() for side in sides.values())
    assert {side.environment for side in sides.values()} == {None, *train_speed.ENVIRONMENTS}


def test_all_ways_to_rank_agree_with_the_definition() -> None:
    sequences = random_sequences(1, n_users=25, n_items=60)
    histories = sequences.split("test")
    torch.manual_seed(0)
    model = SASRec(sequences.n_items, 10, d_model=8).eval()
    encoded = ranking_speed.encode(model, sequences, histories)
    ours = ranking_speed.by_counting(model, sequences, histories, encoded)
    for user in range(len(histories)):
        history = sequences.items[histories.start[user] : histories.stop[user]]
        read = torch.from_numpy(history[-10:]).long().unsqueeze(0)
        with torch.inference_mode():
            scores = model.score(read, torch.tensor([read.shape[1]]))
        seen = (torch.zeros(len(history), dtype=torch.long), torch.from_numpy(history).long())
        expected = target_ranks(scores, torch.from_numpy(histories.targets[user : user + 1]).long(), seen)
        assert (ours[0][user], ours[1][user]) == tuple(int(x) for x in expected)
    sorted_ = ranking_speed.by_sorting(model, sequences, histories, encoded)
    best = ranking_speed.by_top_k(model, sequences, histories, encoded)
    for mine, theirs, top in zip(ours, sorted_, best, strict=True):
        assert (mine == theirs).all()
        assert (top == np.where(mine <= ranking_speed.TOP, mine, 0)).all()
        assert ranking_speed.agreement(mine, top) == 1.0
    assert ranking_speed.agreement(ours[0], replace_first(ours[0])) == 1 - 1 / len(ours[0])


def replace_first(ranks: np.ndarray) -> np.ndarray:
    changed = ranks.copy()
    changed[0] += 1
    return changed


def test_the_large_set_is_simulated_at_the_papers_size() -> None:
    sequences = ranking_speed.simulated(2000)
    assert sequences.n_items + 1 == ranking_speed.BEAUTY["items"]
    assert sequences.lengths.min() >= 5
    # standard error of a mean of 2,000 geometric lengths: below 0.11
    assert abs(sequences.lengths.mean() - 6_860_060 / 750_835) < 0.5
    few = ranking_speed.first(sequences.split("test"), 7)
    assert len(few) == 7
    assert replace(few, targets=few.targets[:3]).targets.tolist() == sequences.items[few.stop[:3]].tolist()


@pytest.mark.parametrize("architecture", ["gpt2", "mamba2"])
def test_what_is_kept_is_counted_from_the_tensors_themselves(architecture: str) -> None:
    size, setting, found = decoding_speed.TINY, Search(beams=3, steps=4), {}
    model = decoding_speed.model_of(architecture, size, 200, "cpu")
    ticks = iter(range(10**6))
    for context in (10, 60):
        found[context] = decoding_speed.one_search(model, context, setting, lambda: float(next(ticks)))
    kept = {context: one["kept_bytes"] for context, one in found.items()}
    # every reading of the clock is a second later than the one before: one reading, three steps, the whole
    assert all(one["read_seconds"] == one["step_seconds"] == 1.0 for one in found.values())
    assert all(one["total_seconds"] == 9.0 for one in found.values())
    d, layers, numbers = size.d_model, size.n_layers, 4
    if architecture == "gpt2":  # queries, keys and values of the prompt in one storage; of each beam keys and values
        assert kept[60] - kept[10] == 50 * 3 * d * layers * numbers
        assert kept[10] == (10 * 3 * d + setting.beams * setting.steps * 2 * d) * layers * numbers
    else:  # a state and four inputs of the convolution for each beam, whatever the prompt
        state = 2 * d * size.d_state + 4 * (2 * d + 2 * size.d_state)
        assert kept[60] == kept[10] == setting.beams * state * layers * numbers


class Counter:
    def __init__(self, model: str, path: str) -> None:
        self.model, self.path, self.weights, self.parameters = model, path, "random", 1
        self.seen: list[int] = []

    def answer(self, history: np.ndarray) -> int:
        self.seen.append(int(history[0]))
        return 2


def test_everyone_answers_the_same_users_and_the_papers_sizes_fewer() -> None:
    field = [Counter("sasrec", "served"), Counter("gpt4rec", "free"), Counter("gpt4rec", "paper")]
    histories = [np.array([user]) for user in range(50)]
    ticks = iter(range(10**6))
    rng = np.random.default_rng(0)
    times, errors = query_latency.in_turns(field, histories, 4, 3, 2, lambda: float(next(ticks)), rng)
    assert errors == {}
    warm = [3, 3, 1]
    served, free, paper = (own.seen[n:] for own, n in zip(field, warm, strict=True))
    assert served == free and len(served) == 12
    assert paper == [served[0], served[3]]  # the first user of the first two blocks
    assert [len(own.blocks) for own in times] == [4, 4, 2]
    assert [own.tokens for own in times] == [24, 24, 4]
    assert all(second == 1.0 for own in times for block in own.blocks for second in block)


def test_who_fails_while_warming_up_takes_no_part_and_is_named() -> None:
    class Failing(Counter):
        answer = Mock(side_effect=RuntimeError("no kernel\nfor this card"))

    field = [Counter("sasrec", "graph"), Failing("mamrec", "paper")]
    histories, rng = [np.array([user]) for user in range(5)], np.random.default_rng(0)
    times, errors = query_latency.in_turns(field, histories, 2, 3, 2, lambda: 0.0, rng)
    assert errors == {"mamrec, paper": "RuntimeError: no kernel"}
    assert [len(own.blocks) for own in times] == [2, 0]


def test_a_ranker_of_the_papers_size_orders_a_retrievers_candidates() -> None:
    sequences = random_sequences(0, n_users=12, n_items=60, longest=10)
    (like, _) = query_latency.rankers("demo", sequences)
    own = query_latency.paper_ranker(like, True, "cpu")
    history = sequences.items[:3].astype(np.int64)
    assert own.answer(history) == 0 and own.tokens == 718
    assert sorted(own.ordered) == sorted(like.retriever.server.recommend([history], 20)[0][0])
    assert {parameter.dtype for parameter in own.language.parameters()} == {torch.bfloat16}
    config = own.language.config
    prompt = torch.arange(20)[None]
    assert own.language(prompt).logits.isfinite().all() and own.parameters < 10**5
    assert own.language.model.rotary_emb.inv_freq.numel() == config.hidden_size // config.num_attention_heads // 2


def test_llama_has_the_published_number_of_weights() -> None:
    assert sum(parameter.numel() for parameter in decoding_speed.llama(False, "meta").parameters()) == LLAMA_7B


def test_a_gpu_has_no_cpu_clock() -> None:
    with pytest.raises(SystemExit, match="device 'cuda' with clock 'cpu'; use cpu, or cuda with --clock wall"):
        query_latency.main(["demo"], clock="cpu", device="cuda")
    with pytest.raises(SystemExit, match="device 'gpu' with clock 'wall'; use cpu"):
        conditions.check_device("gpu", "wall")
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match=r"device 'cuda' needs a GPU, and torch .* sees none; use cpu"):
            conditions.check_device("cuda", "wall")


def test_a_writer_answers_from_the_history_to_the_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sequences = random_sequences(0, n_users=12, n_items=12, longest=10)
    plan = generative.plan
    quick = {
        "d_model": 16, "n_layers": 1, "heads": 2, "d_state": 8, "vocabulary": 320, "positions": 96, "history": 4,
        "prompt_tokens": 64, "title_tokens": 8, "beams": 5, "length": 10, "fewer": [5], "steps": 6,
    }  # fmt: skip
    monkeypatch.setattr(generative, "plan", lambda asked: plan(asked | {"overrides": quick}))
    pair = query_latency.writers("demo", sequences, RunStore(tmp_path / "new", tmp_path / "published"))
    assert [(own.model, own.path, own.weights) for own in pair] == [
        (model, path, "random") for model in ("gpt4rec", "mamrec") for path in ("free", "held")
    ]
    for own in pair:
        assert 5 <= own.answer(sequences.items[:3].astype(np.int64)) <= 5 * (own.config.writing.steps + 8)  # type: ignore[attr-defined]
    assert len({own.parameters for own in pair}) == 2


def test_a_ranker_answers_from_the_history_with_its_retriever() -> None:
    sequences = random_sequences(0, n_users=12, n_items=60, longest=10)
    found = query_latency.rankers("demo", sequences)
    assert [(own.model, own.path) for own in found] == [("llamarec", "ranker"), ("llamarec+2mamba4rec", "ranker")]
    for own in found:
        history = sequences.items[:3].astype(np.int64)
        assert own.answer(history) == 0  # writes no token
        assert len({*own.ordered.tolist()} - {*history.tolist()}) == 20
        assert own.parameters > own.ranker.encoder.tokenizer.vocab_size


def test_the_gpu_benchmark_says_that_it_needs_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"gpu_training needs a GPU, and torch .* sees none"):
        gpu_training.main(out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_loops_floors_and_goal_are_measured_alike_without_a_gpu() -> None:
    sequences = random_sequences(1, n_users=40, n_items=30, longest=12)
    rates = {"bytes": 1e9, "fp32_flops": 1e10, "bf16_flops": 1e11}
    row = gpu_training.compare_loops(sequences, "sasrec", rates, torch.device("cpu"), 0.1)
    assert row["ordinary_epoch_seconds"] > 0 and row["resident_epoch_seconds"] > 0
    targets, steps = int((sequences.lengths - 3).clip(0).sum()), row["steps"]
    assert row["softmax_flop"] == 6 * 32 * 64 * targets  # 31 rows of the catalogue, filled up to 32
    assert row["loss_bytes"] == 9 * 4 * 31 * targets
    parameters = sum(p.numel() for p in SASRec(30, 50).parameters())
    activations = row["least_bytes"] - 4 * 10 * parameters * steps
    assert activations >= 4 * 4 * targets * 64 * 3 and row["filled_positions"] >= 1
    # 2 layers of 12 d^2 weights, each of 2 FLOP forward and 4 backward
    assert row["other_flop"] >= 6 * 2 * 12 * 64**2 * targets
    assert row["operations_floor_seconds"] == pytest.approx((row["softmax_flop"] + row["other_flop"]) / 1e10)

    found = gpu_training.time_to_goal(sequences, "sasrec", goal=1e-9)
    assert found["reached"] and found["epochs"] == 1 and 0 < found["training_seconds"] < found["seconds"]
    given_up = gpu_training.time_to_goal(sequences, "sasrec", goal=2.0, patience=0.0)
    assert not given_up["reached"] and given_up["seconds"] > 0
    assert gpu_training.least_bytes(1000, [Shape(2, 5, 10)], 4, 1) == 41280
    assert gpu_training.loss_bytes([Shape(1, 8, 8)], 100, 2) == 14400


def test_a_step_is_timed_without_what_is_compiled_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    turn = gpu_training.Turn(seconds=4.0, epochs=3)

    def train() -> None:
        for step in range(1, 2000):
            clock[0] += 5.0 if step in (2, 300, 350, 410) else 0.01  # a new shape's kernels
            turn(Progress(1, 3, step, 700, 1.0))

    with pytest.raises(gpu_training.Enough):
        train()
    assert turn.epoch_seconds == pytest.approx(7.0)


def test_the_fastest_epoch_counts_and_never_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    turn = gpu_training.Turn(seconds=4.0, epochs=4)

    def train() -> None:
        for epoch, seconds in enumerate((0.1, 3.0, 0.5, 0.7), 1):
            turn(Progress(epoch, 9, 10, 10, 1.0, {"seconds": seconds}))

    with pytest.raises(gpu_training.Enough):
        train()
    assert turn.epoch_seconds == 0.5


def test_a_mixer_takes_turns_with_transformers_here_and_in_a_process_of_its_own(tmp_path: Path) -> None:
    block: dict[str, Any] = {"hidden_size": 8, "expand": 2, "num_hidden_layers": 1, "use_bias": False, "state_size": 4}
    block |= {"head_dim": 8, "num_heads": 2, "n_groups": 1, "chunk_size": 4}
    theirs = Mamba2Mixer(Mamba2Config(**block), layer_idx=0)
    ours = Mamba2(8, 4, headdim=8)
    side = Side("older", "transformers_mixer.py", None, block | {"batch": 2, "length": 6})
    with (tmp_path / "log").open("wb") as log:
        older = Worker(side, {}, {"threads": 1}, tmp_path, log)
    assert older.report()["versions"].keys() == {"torch", "transformers"}
    rows = mixer_speed.against_transformers(ours, theirs, torch.randn(2, 6, 8), 2, 1e9, older)
    older.stop()
    assert older.process.returncode == 0
    assert rows["ours"]["ours_times_as_fast"] == 1.0
    assert {name.split()[0] for name in rows} == {"ours", "transformers"} and len(rows) >= 3
    # in_proj of 16 + 16 + 2 * 4 + 2 outputs and out_proj of 16 to 8, forward and twice backward, are the least
    assert rows["ours"]["floor_milliseconds"] == pytest.approx(1e3 * rows["ours"]["product_gflop"])  # at 1 GFLOP/s
    assert rows["ours"]["product_gflop"] * 1e9 > 2 * 3 * 12 * (8 * 42 + 16 * 8)


@pytest.mark.parametrize("kind", ["encode", "request"])
def test_a_served_model_and_its_module_are_timed_at_the_same_request(kind: str) -> None:
    case = serving_speed.Case(kind, 1 if kind == "encode" else 6, 30, 80)
    model = build("sasrec", 80, 50, {"d_model": 16, "n_layers": 2, "n_heads": 2, "dropout": 0.2}).eval()
    served, module = serving_speed.sides(model, case, np.random.default_rng(0))
    if kind == "encode":
        np.testing.assert_allclose(served(), module()[0].numpy(), atol=1e-5)
        return
    (ids, best), want = served(), module()
    np.testing.assert_allclose(best, want.values.numpy(), atol=1e-5)
    assert (ids == want.indices.numpy()).mean() > 0.9  # near ties may change places


def test_a_ratio_is_the_median_of_those_of_the_rounds() -> None:
    seconds = iter(
        [0.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 10.0, 10.0, 13.0, 13.0, 14.0]
    )  # 2, 1 | 1, 6 | 3, 1: a b, b a, a b
    found = serving_speed.compare(lambda: None, lambda: None, 3, lambda: next(seconds), repeats=1)
    assert (found["ratio"], found["served_ms"], found["module_ms"]) == (3.0, 3000.0, 1000.0)


EPOCHS = """
import json, sys, time
sys.path.insert(0, {peers!r})
from turns import Stopwatch, send, settings
watch = Stopwatch("wall")
send({{"asked": settings()}})
for epoch, quality in ((1, 0.1), (2, 0.3), (3, 0.2)):
    with watch.paused():
        time.sleep(0.2)
    send({{"epoch": epoch, "seconds": watch.seconds(), "ndcg": quality}})
print("not a report")
sys.exit({code})
"""


def test_a_side_is_followed_to_its_end_and_the_first_good_epoch_counts(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(EPOCHS.format(peers=str(PEERS), code=0))
    facts, epochs = time_to_quality.follow([sys.executable, str(worker), '{"goal": 0.25}'], "ours", 1)
    assert facts == {"asked": {"goal": 0.25}} and [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    assert epochs[-1]["seconds"] < 0.5, "seconds passed while the watch was paused"
    row = time_to_quality.summary("ours", "sasrec", 0.25, facts, epochs)
    assert row["reached"] == epochs[1] == row["best"]
    assert time_to_quality.summary("ours", "sasrec", 0.5, facts, epochs)["reached"] is None
    worker.write_text(EPOCHS.format(peers=str(PEERS), code=3))
    with pytest.raises(SystemExit, match="ended with 3"):
        time_to_quality.follow([sys.executable, str(worker), "{}"], "ours", 1)


def test_good_is_what_published_runs_reached_in_the_mean() -> None:
    best = time_to_quality.published_best("ml-1m", "sasrec")
    assert 0.15 < best < 0.17
    with pytest.raises(SystemExit, match="no published run of sasrec on ml-latest-small"):
        time_to_quality.published_best("ml-latest-small", "sasrec")
