"""The page on what was tried has its figures from the record of `make stress` and from the rechecks, and says so where
there are none."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from seqrec_lib.report.frames import NotRun, Runs
from seqrec_lib.report.pages import robustness
from seqrec_lib.report.values import EXHIBITS, VALUES
from seqrec_lib.results.rechecks import Recheck
from tests.stress.__main__ import PARTS

COUNT = {"kind": "made up", "tried": 3, "held": 2, "broken": ["a line"]}


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "study.yml").write_text("profiles: {}\n", encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "benchmarks/results"
    folder.mkdir(parents=True)
    return folder / "stress.json"


def test_every_part_of_the_program_has_its_figures(record: Path) -> None:
    parts = {key: [COUNT, COUNT] for key in PARTS}
    parts["disk"] = [{"kind": "a disk", "tried": 0, "held": 0, "broken": [], "skipped": "no root"}]
    record.write_text(json.dumps({"form": "quick", "date": "2026-11-30", "parts": parts}), encoding="utf-8")
    runs = Runs.published()
    assert VALUES["stress/form"](runs) == "quick"
    for part in PARTS:
        name = f"stress/{part.replace(' ', '-')}"
        assert VALUES[name](runs) == (0 if part == "disk" else 6)
        assert VALUES[f"{name}/held"](runs) == (0 if part == "disk" else 4)
    table = EXHIBITS["stress"](runs)(caption="tried")
    assert table.html.count("<tr>") == 1 + 2 * (len(PARTS) - 1) + 1
    assert table.html.count("not run") == 2, "both cells of the part that was skipped"


def test_without_a_record_nothing_was_run(record: Path) -> None:
    for name in ("stress/form", "stress/kills", "stress/fuzz/held"):
        with pytest.raises(NotRun):
            VALUES[name](Runs.published())
    assert set(robustness.TITLES) == set(PARTS)


def _recheck(run_id: str, old: float, new: float, seeds: tuple[float, float] | None = None) -> Recheck:
    spread = {} if seeds is None else {"ndcg@10": seeds}
    return Recheck(run_id, "2026-12-01", "c", "CPU", {"ndcg@10": (old, new), "first_timestamp": (1.0, 1.0)}, spread)


def test_changes_stand_beside_the_range_of_the_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    rechecks = [
        _recheck("a", 0.10, 0.10),
        _recheck("b", 0.10, 0.13, (0.09, 0.12)),
        _recheck("c", 0.10, 0.09, (0.08, 0.12)),
        _recheck("d", 0.20, 0.2, None),
    ]
    records = [SimpleNamespace(run_id=run, experiment="orpo" if run == "d" else "accuracy") for run in "abcd"]
    runs = SimpleNamespace(store=SimpleNamespace(records=lambda: records))
    monkeypatch.setattr(robustness, "rechecks_of", lambda ids: [one for one in rechecks if one.run_id in ids])
    first, second = robustness._rechecks(runs)  # type: ignore[arg-type]
    assert first["largest"] == pytest.approx(0.03) and second["within"] is None
    expected = {"experiment": "Accuracy", "metric": "NDCG@10", "runs": 3, "equal": 1, "seeded": 2, "within": 1}
    assert {name: value for name, value in first.items() if name != "largest"} == expected
    monkeypatch.setattr(robustness, "rechecks_of", lambda ids: [])
    with pytest.raises(NotRun):
        list(robustness._rechecks(runs))  # type: ignore[arg-type]
