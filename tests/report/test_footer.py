from dataclasses import replace

from seqrec_lib.report import footer
from seqrec_lib.results.rechecks import Recheck


def test_the_footer_names_runs_commit_dates_hardware_and_failures(make, monkeypatch):
    made = make()
    done = [record for record in made.records if record is not None]
    again = Recheck(done[0].run_id, "2026-11-30T00:00:00.000+00:00", "f" * 40, "a CPU", {"ndcg@10": (0.1, 0.2)}, {})
    monkeypatch.setattr(footer, "rechecks_of", lambda runs: [again] if again.run_id in set(runs) else [])
    text = footer.provenance(made.records).text
    for part in ("4 of 5", "2026-11-20", "012345678", "Test CPU, 2 threads", "NaN", "0.1000 before, 0.2000 then"):
        assert part in text
    assert all(record.run_id in text for record in done)


def test_each_run_links_to_its_record_and_a_published_one_names_its_command(make, monkeypatch):
    made = make()
    record = made.records[0]
    monkeypatch.setattr(footer, "RunStore", lambda: made.store)
    command = f"seqrec results recheck --run {record.run_id}"
    html = footer.provenance([record]).html
    assert f'href="../_static/records/{record.run_id}.json"' in html and command not in html
    made.store.new.rename(made.store.published)
    assert command in footer.provenance([record]).html


def test_runs_of_several_precisions_are_counted(make):
    records = [record for record in make().records if record is not None and record.complete]
    trained = [
        replace(record, cost={"train_seconds": 1.0}, environment=record.environment | {"precision": precision})
        for record, precision in zip(records[1:], ("fp32", "softmax-bf16"), strict=True)
    ]
    text = footer.provenance([records[0], *trained]).text
    assert "float32: 1 runs" in text and "bfloat16 in the item softmax: 1 runs" in text


def test_without_a_record_the_footer_says_not_run():
    assert "not run" in footer.provenance([None, None]).text
