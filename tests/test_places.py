"""Where things lie: paths from a person, and a place for compiled kernels."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from seqrec_lib import places
from seqrec_lib.errors import SeqRecError


def test_a_home_that_does_not_exist_is_one_line() -> None:
    assert places.from_user("~") == Path.home()
    with pytest.raises(SeqRecError, match=r"path '~nobody-of-that-name/x': .*; write it out"):
        places.from_user("~nobody-of-that-name/x")


@pytest.mark.parametrize("writable", ["package", "cache", "neither"])
def test_kernels_have_a_cache_where_nothing_can_be_written(
    writable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("NUMBA_CACHE_DIR", "set, so that it is unset again")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache" / "deep"))
    allowed = {"package": Path(places.__file__).parent, "cache": home}.get(writable)
    monkeypatch.setattr(os, "access", lambda path, mode: path == allowed)
    places.give_numba_a_cache()
    given = os.environ.get("NUMBA_CACHE_DIR")
    assert (given is not None) == (writable == "neither")
    if given is not None:
        assert Path(given).is_dir() and Path(given).stat().st_mode & 0o077 == 0  # nobody else's kernels
        places.give_numba_a_cache()
        assert os.environ["NUMBA_CACHE_DIR"] == given  # what is set stays
        Path(given).rmdir()


def test_importing_does_not_fail_where_there_is_no_place_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = Mock(side_effect=PermissionError(13, "closed"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", "set, so that it is unset again")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(Path, "stat", closed)
    monkeypatch.setattr("tempfile.mkdtemp", closed)
    places.give_numba_a_cache()
    assert "NUMBA_CACHE_DIR" not in os.environ
