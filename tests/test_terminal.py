"""What comes from records, titles and file names reaches a terminal without what the terminal would obey."""

from __future__ import annotations

import sys
import unicodedata
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seqrec_lib import cli
from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import accuracy
from seqrec_lib.experiments.base import look_up
from seqrec_lib.progress import Reporter
from seqrec_lib.results import RunStore
from seqrec_lib.results.record import plain
from seqrec_lib.study import Page, Result
from seqrec_lib.study.execution import Failure
from seqrec_lib.terminal import escape, one_line
from tests.fakes import make_project, make_record

BIDI = [chr(c) for c in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))]
HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x08\u202e\u2066\u2069\x85\u2028end"


def harmless(text: str) -> bool:
    """Whether a terminal shows all of ``text`` as it stands."""
    return not any(
        unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in BIDI for line in text.split("\n") for c in line
    )


def test_every_control_character_and_every_turn_of_direction_is_spelled_out() -> None:
    for code in range(sys.maxunicode + 1):
        c = chr(code)
        if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in BIDI:
            assert escape(f"a{c}b") == f"a{c.encode('unicode_escape').decode()}b", hex(code)


def test_letters_marks_digits_signs_and_joiners_of_all_scripts_stay() -> None:
    kept = [chr(c) for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c))[0] in "LMNPS"]
    assert len(kept) > 100_000
    text = " ".join(kept) + " می\u200cخواهم 👩\u200d🚀 全角\u3000空白 C:\\new"
    assert escape(text) == text


def test_escaping_twice_changes_nothing_and_lines_become_one() -> None:
    assert escape(escape(HOSTILE)) == escape(HOSTILE)
    assert harmless(escape(HOSTILE))
    assert one_line("  one\n\n two\r\nthree  ") == "one two three"
    assert "\n" not in escape("a\nb")


def test_an_expected_error_is_one_harmless_line_wherever_it_is_shown() -> None:
    text = str(SeqRecError(f"no title contains\n{HOSTILE}"))
    assert harmless(text) and "\n" not in text and "owned" in text


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    """A project with a run of the plan and a further one, whose texts are hostile throughout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SEQREC_RUNS", raising=False)
    cell = 'dataset: str = "demo"\nmodels: list[str] = ["sasrec"]\nseeds: list[int] = [0]\noverrides: dict = {}\n'
    study = "profiles:\n  demo:\n    - notebook: accuracy\n      datasets: [demo]\n"
    make_project(tmp_path, {"accuracy": [cell]}, study)
    (config,) = accuracy.plan({"dataset": "demo", "models": ["sasrec"], "seeds": [0]})
    store = RunStore()
    code = look_up(accuracy, config, store).code
    common = {"dataset": {"name": "demo"}, "status": "failed", "error": HOSTILE, "environment": {"device": HOSTILE}}
    store.save(make_record(config=plain(config), revision=accuracy.revision(config), code=code, **common))
    store.save(make_record(config={"dataset": HOSTILE, "model": HOSTILE}, **common))
    return store


@pytest.mark.parametrize("command", [["status"], ["results", "list"]])
def test_records_are_shown_harmlessly(store: RunStore, command: list[str]) -> None:
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 0
    assert "owned" in done.output and harmless(done.output)


def test_titles_names_of_files_and_reasons_are_shown_harmlessly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("seqrec_lib.recommend.recommend", lambda *_, **__: [(f"Алиса {HOSTILE}", 1.0)])
    monkeypatch.setattr("seqrec_lib.data.available", lambda name: (True, f"/data/{HOSTILE}"))
    failure = Failure(Page("accuracy", "demo", {}), HOSTILE, tmp_path / HOSTILE.replace("/", ""))
    result = Result([failure], [HOSTILE], None)
    monkeypatch.setattr("seqrec_lib.study.build_book", lambda **_: result)
    for command in (["recommend", "A"], ["data", "list"], ["book"], ["data", "stats", HOSTILE]):
        done = CliRunner().invoke(cli.app, command)
        assert "owned" in done.output and harmless(done.output), command
    assert "Алиса" in CliRunner().invoke(cli.app, ["recommend", "A"]).stdout


def test_progress_is_shown_harmlessly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "progress"
    monkeypatch.setenv("SEQREC_PROGRESS", str(log))
    with Reporter() as reporter:
        reporter.start(HOSTILE)
        reporter.report(HOSTILE)
        reporter.line(HOSTILE)
    shown = capsys.readouterr().err
    assert shown.count("owned") == 4 and harmless(shown)
    assert harmless(log.read_text(encoding="utf-8"))


def test_a_line_rewritten_in_place_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    reporter = Reporter()
    reporter._terminal = True
    monkeypatch.setattr(reporter, "_rewrite", shown.append)
    reporter.start(HOSTILE)
    reporter.report_share(0.5, HOSTILE)
    assert len(shown) == 2 and all(harmless(text) for text in shown)


def test_warnings_are_one_harmless_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(cli, "app", lambda: warnings.warn(HOSTILE, stacklevel=1))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        cli.main()
    shown = capsys.readouterr().err
    assert shown.startswith("warning: ") and shown.count("\n") == 1 and harmless(shown)
