"""Small files of a reader's own, for the tests: enough for the 5-core, each user's rows in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqrec_lib.data import load, own
from seqrec_lib.errors import SeqRecError

START = 1_600_000_000


def rows(users: int = 30, each: int = 8, items: int = 24) -> list[tuple[str, str, int]]:
    """Enough for the 5-core: (user, item, seconds)."""
    return [
        (f"u{u}", f"i{(u + 3 * n) % items}", START + 60 * (u * each + n)) for u in range(users) for n in range(each)
    ]


def lines(header: str = "user,item,timestamp", entries=None) -> list[str]:
    return [header, *(f"{user},{item},{time}" for user, item, time in entries or rows())]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a file and gives its address; the cache is the test's own."""
    monkeypatch.setenv("SEQREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def write(content: list[str] | bytes, name: str = "mine.csv", query: str = "") -> str:
        data = content if isinstance(content, bytes) else ("\n".join(content) + "\n").encode()
        Path(name).write_bytes(data)
        return f"file:{name}{query}"

    return write


def refused(address: str) -> str:
    """The one line of an error, while the address is resolved or the data are loaded."""
    with pytest.raises(SeqRecError) as caught:
        load(own.resolve(address))
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    return message
