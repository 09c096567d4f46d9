"""One table of all verdicts, from records: what there is decides, and without records nothing is claimed."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqrec_lib.metrics import rank_metrics
from seqrec_lib.report import claims, verdicts
from seqrec_lib.results import RunStore
from seqrec_lib.results.record import plain
from seqrec_lib.study import load_study
from seqrec_lib.study.plans import run_states
from tests.fakes import make_record
from tests.report.test_language import hits


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    monkeypatch.setattr(verdicts.benchmarks, "read", lambda folder, name: None)
    return RunStore(tmp_path / "new", tmp_path / "published")


def test_without_records_no_claim_is_judged(store: RunStore) -> None:
    found = verdicts.from_records(store=store)
    assert {verdict.word for verdict in found} == {"not tested yet"}
    ids = {verdict.claim.id for verdict in found}
    assert {"quality-mamrec", "speed-ssm", "speed-hydra", "cpu", "usgm", "usgm-robustness"} <= ids
    text = claims.claims_table(found).text
    assert text.count("not tested yet") == len(claims.CLAIMS)
    assert "In 5 of these 6 rows the three metrics cannot come from one ranked list" in text


def test_the_pair_is_judged_from_the_runs_of_its_pages_and_never_from_simulated_data(store: RunStore) -> None:
    import pyarrow as pa

    shares = {"gpt4rec": 0.1, "mamrec": 0.3}
    for name in ("generative-demo", "generative-ml-100k"):
        page = next(page for page in load_study().pages() if page.name == name)
        for state in run_states(page, store):
            if state.config.model in shares:
                ranks = hits(shares[state.config.model], state.config.seed)
                record = make_record(
                    experiment="generative", config=plain(state.config), metrics=rank_metrics(ranks), tables=("ranks",),
                    dataset={"name": state.config.dataset}, environment={"language_model": {"parameters": 300_000}},
                )  # fmt: skip
                store.save(record, {"ranks": pa.table({"rank": ranks, "masked_rank": ranks})})
        (verdict,) = [v for v in verdicts.from_records(store=store) if v.claim.id == "quality-mamrec"]
        assert verdict.word == ("not tested yet" if name == "generative-demo" else "upheld")
    assert "seed by seed" in verdict.reason and "Simulated" not in verdict.reason
