"""Pages that compute have the machine to themselves; pages that read are rendered side by side, told in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from seqrec_lib.study import pool
from seqrec_lib.study.execution import Failure, Stopped
from seqrec_lib.study.plans import Page
from seqrec_lib.study.pool import Job, execute_pages


def page(name: str) -> Page:
    return Page(name, None, {})


class Machine:
    """Stands in for papermill: notes who is at work at the same time; ``does`` is what a page does meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, does: Callable[..., Failure | None]) -> None:
        self.does, self.lock, self.busy = does, threading.Lock(), set[str]()
        self.together: list[frozenset[str]] = []
        monkeypatch.setattr(pool, "execute_page", self.execute)

    def execute(self, root, page, missing, environment, say, stop=None) -> Failure | None:
        with self.lock:
            self.busy.add(page.name)
            self.together.append(frozenset(self.busy))
        try:
            return self.does(page, say, stop)
        finally:
            with self.lock:
                self.busy.discard(page.name)


def test_pages_that_compute_run_alone_and_pages_that_read_run_together(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=30)

    def does(page, say, stop) -> None:
        if page.name.startswith("read"):
            both.wait()  # passes only if two of them are under way at the same time

    machine = Machine(monkeypatch, does)
    jobs = [Job(page(f"compute{i}"), "run") for i in range(3)] + [Job(page(f"read{i}"), "skip") for i in range(4)]
    assert execute_pages(Path(), jobs, lambda line: None, at_once=2) == []
    for together in machine.together:
        assert len(together) <= 2
        assert len(together) == 1 or all(name.startswith("read") for name in together)


def test_what_is_said_and_what_failed_come_in_the_order_of_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    later = threading.Event()

    def does(page, say, stop) -> Failure | None:
        say(f"  at {page.name}")
        if page.name == "a":
            assert later.wait(30)  # the first ends last
        elif page.name == "c":
            later.set()
        return Failure(page, f"no {page.name}", Path()) if page.name in "ac" else None

    Machine(monkeypatch, does)
    said: list[str] = []
    failures = execute_pages(Path(), [Job(page(name), "skip") for name in "abc"], said.append, at_once=2)
    assert [failure.page.name for failure in failures] == ["a", "c"]
    timeless = [line.partition(" in ")[0] for line in said]
    assert timeless == [
        *("a: rendering from records", "  at a", "a: FAILED: no a"),
        *("b: rendering from records", "  at b", "b: done"),
        *("c: rendering from records", "  at c", "c: FAILED: no c"),
    ]


def test_the_first_page_speaks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    spoken = threading.Event()

    def does(page, say, stop) -> None:
        say(f"  at {page.name}")
        assert page.name != "a" or spoken.wait(30)  # it goes on only when its line was passed on

    def hear(line: str) -> None:
        if line == "  at a":
            spoken.set()

    Machine(monkeypatch, does)
    assert execute_pages(Path(), [Job(page(name), "skip") for name in "ab"], hear, at_once=2) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interruption_stops_the_pages_under_way_and_starts_no_other(monkeypatch: pytest.MonkeyPatch, error) -> None:
    started = threading.Event()
    ended: list[str] = []

    def does(page, say, stop) -> None:
        if page.name == "a":
            assert started.wait(30)
            raise error
        started.set()
        limit = time.monotonic() + 30
        while time.monotonic() < limit:
            if stop.is_set():
                ended.append(page.name)
                raise Stopped
            time.sleep(0.01)

    machine = Machine(monkeypatch, does)
    with pytest.raises(error):
        execute_pages(Path(), [Job(page(name), "skip") for name in "abcde"], lambda line: None, at_once=2)
    assert "b" in ended
    assert not machine.busy
    assert {name for names in machine.together for name in names} == {"a", "b"}


def test_the_error_of_a_later_page_is_the_one_that_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def does(page, say, stop) -> None:
        if page.name == "b":
            raise OSError("no more processes")
        limit = time.monotonic() + 30
        while time.monotonic() < limit:
            if stop.is_set():
                raise Stopped
            time.sleep(0.01)

    machine = Machine(monkeypatch, does)
    with pytest.raises(OSError, match="no more processes"):
        execute_pages(Path(), [Job(page(name), "skip") for name in "abc"], lambda line: None, at_once=2)
    assert not machine.busy and {name for names in machine.together for name in names} == {"a", "b"}
