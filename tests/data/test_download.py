"""Finding files on disk; downloads from a server on this machine: resumed, verified, set aside when bad."""

from __future__ import annotations

import hashlib
import os
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from seqrec_lib.data import readers
from seqrec_lib.data.download import data_folders, download, fetch, locate, missing
from seqrec_lib.data.registry import DatasetSpec, RemoteFile, Source, get
from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import cache_folder

CONTENT = bytes(range(256)) * 2000  # 512,000 bytes


class Server:
    """Serves CONTENT under any path; can cut connections, ignore ranges, or refuse."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.cut_after: list[int] = []  # bytes after which each of the next connections breaks
        self.ranges = True
        self.range_said: str | None = None  # in place of the range that is sent
        self.status = 200
        self.requests: list[str | None] = []  # the Range header of each request
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                outer.requests.append(wanted)
                if outer.status != 200:
                    self.send_error(outer.status)
                    return
                start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and outer.ranges else 0
                if start >= len(outer.content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(outer.content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body = outer.content[start:]
                self.send_response(206 if wanted and outer.ranges else 200)
                self.send_header("Content-Length", str(len(body)))
                if wanted and outer.ranges and outer.range_said:
                    self.send_header("Content-Range", outer.range_said)
                    outer.range_said = None
                self.end_headers()
                if outer.cut_after:
                    self.wfile.write(body[: outer.cut_after.pop(0)])
                    self.close_connection = True
                    return
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/file.bin"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = Server()
    yield running
    running.stop()


def remote(server: Server, checksum: str | None = None) -> RemoteFile:
    return RemoteFile("file.bin", server.url, checksum)


MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


def _files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.suffix != ".lock")


def test_two_at_once_read_the_file_once(server, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: download(remote(server), tmp_path), range(2)))
    assert [path.read_bytes() for path in paths] == [CONTENT, CONTENT]
    assert len(server.requests) == 1


@pytest.mark.parametrize("checksum", [MD5, SHA256, None])
def test_a_download_is_the_file_and_leaves_nothing_else(server, tmp_path, checksum):
    path = download(remote(server, checksum), tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert _files(path.parent) == ["file.bin"]


def test_a_cut_connection_is_taken_up_where_it_broke(server, tmp_path):
    server.cut_after = [200_000, 100_000]
    assert download(remote(server, MD5), tmp_path).read_bytes() == CONTENT
    assert server.requests[0] is None
    starts = [int(wanted.removeprefix("bytes=").rstrip("-")) for wanted in server.requests[1:]]
    assert len(starts) == 2
    assert 0 < starts[0] <= 200_000
    assert starts[0] < starts[1] <= 300_000


PARTS = {  # (what is there, whether the server can go on from there, what it is asked)
    "the beginning": (CONTENT[:300_000], True, ["bytes=300000-"]),
    "the whole": (CONTENT, True, None),
    "more than the whole": (CONTENT + b"more", True, None),
    "another file's beginning, and no ranges": (b"x" * 1000, False, None),
}


@pytest.mark.parametrize("kind", PARTS)
def test_a_part_of_an_earlier_call_is_gone_on_with_or_thrown_away(server, tmp_path, kind):
    part, server.ranges, asked = PARTS[kind]
    (tmp_path / "file.bin.part").write_bytes(part)
    assert download(remote(server, MD5), tmp_path).read_bytes() == CONTENT
    assert asked in (None, server.requests)


def test_another_part_than_was_asked_for_is_not_appended(server, tmp_path):
    server.range_said = f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:300_000])
    assert download(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.requests == ["bytes=300000-", None]


def test_when_the_connection_keeps_breaking_the_part_stays(server, tmp_path):
    server.cut_after = [50_000] * 10
    with pytest.raises(SeqRecError) as caught:
        download(remote(server, MD5), tmp_path)
    assert server.url in str(caught.value)
    assert not (tmp_path / "file.bin").exists()
    kept = (tmp_path / "file.bin.part").stat().st_size
    assert kept > 0
    server.cut_after = []
    assert download(remote(server, MD5), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == f"bytes={kept}-"


def test_a_wrong_checksum_names_both_hashes_and_sets_the_file_aside(server, tmp_path):
    expected = "0" * 32
    with pytest.raises(SeqRecError) as caught:
        download(remote(server, f"md5:{expected}"), tmp_path)
    message = str(caught.value)
    assert expected in message
    assert MD5.removeprefix("md5:") in message
    assert _files(tmp_path) == ["file.bin.bad"]
    assert (tmp_path / "file.bin.bad").read_bytes() == CONTENT
    # The next call starts afresh.
    assert download(remote(server, MD5), tmp_path).read_bytes() == CONTENT


def test_a_refusal_is_one_line_with_the_url(server, tmp_path):
    server.status = 404
    with pytest.raises(SeqRecError, match="404") as caught:
        download(remote(server), tmp_path)
    assert server.url in str(caught.value)
    assert len(server.requests) == 1  # asking again would not help


# ---- finding and fetching a data set -----------------------------------------------------------------------

RATINGS, MOVIES = b"userId,movieId,rating,timestamp\n1,7,4,1\n", b"movieId,title,genres\n7,A,x\n"


def spec(server: Server | None = None, checksum: str | None = None) -> DatasetSpec:
    url = server.url.replace("file.bin", "tiny.zip") if server else None
    archive = RemoteFile("tiny.zip", url, checksum)
    files = {"ratings": RemoteFile("ratings.csv"), "titles": RemoteFile("movies.csv")}
    return DatasetSpec(
        name="tiny",
        title="Tiny",
        homepage="https://example.org",
        licence="none",
        citation="none",
        sources=(Source(readers.movielens_csv, files, archive),),
        folders=("Tiny-Data",),
    )


@pytest.mark.parametrize("folder", ["tiny", "Tiny-Data"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_local_files_are_found_plain_or_gzipped(data, folder, suffix):
    data.write(f"{folder}/ratings.csv{suffix}", RATINGS)
    assert locate(spec()) is None  # the titles are missing
    data.write("movies.csv", MOVIES)  # outside a folder of the data set it may be anyone's
    assert locate(spec()) is None
    data.write(f"{folder}/movies.csv", MOVIES)
    found = locate(spec())
    assert len(found[0].read(found[1], True)) == 1


@pytest.mark.parametrize("place", ["tiny/tiny.zip", "tiny.zip"])
def test_a_local_archive_is_read_in_place(data, place):
    path = data.zip(place, {"inside/ratings.csv": RATINGS, "inside/movies.csv": MOVIES, "inside/README": b""})
    found = locate(spec())
    assert found[1]["titles"].path == path
    assert found[0].read(found[1], True).titles == {7: "A"}
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name]  # nothing unpacked


def test_an_archive_of_something_else_is_refused(data):
    data.zip("tiny.zip", {"inside/ratings.csv": RATINGS})
    with pytest.raises(SeqRecError, match=r"tiny.zip holds no movies.csv"):
        locate(spec())
    (data.root / "tiny.zip").write_bytes(b"no archive")
    with pytest.raises(SeqRecError, match=r"tiny.zip is damaged"):
        locate(spec())


def test_the_first_folder_of_the_path_list_wins(data, tmp_path, monkeypatch):
    other = tmp_path / "other"
    for root in (data.root, other):
        (root / "tiny").mkdir(parents=True)
        (root / "tiny" / "ratings.csv").write_bytes(RATINGS)
        (root / "tiny" / "movies.csv").write_bytes(MOVIES)
    monkeypatch.setenv("SEQREC_DATA", os.pathsep.join(["", str(other), str(data.root)]))
    assert data_folders() == [other, data.root]
    found = locate(spec())
    assert found[1]["ratings"].path.is_relative_to(other)


@pytest.mark.parametrize(("named", "data", "cache"), [(True, "mine", "stored"), (False, "data", ".cache")])
def test_places_start_at_the_project_folder(tmp_path, monkeypatch, named, data, cache):
    (tmp_path / "study.yml").touch()
    (tmp_path / "notebooks").mkdir()
    for name, folder in (("SEQREC_DATA", data), ("SEQREC_CACHE", cache)):
        monkeypatch.setenv(name, folder) if named else monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path / "notebooks")
    assert data_folders() == [tmp_path / data] and cache_folder() == tmp_path / cache


def zipped(tmp_path: Path) -> bytes:
    with zipfile.ZipFile(tmp_path / "make.zip", "w") as archive:
        archive.writestr("tiny/ratings.csv", RATINGS)
        archive.writestr("tiny/movies.csv", MOVIES)
    return (tmp_path / "make.zip").read_bytes()


def test_fetch_downloads_once_into_the_cache(data, server, tmp_path):
    server.content = zipped(tmp_path)
    entry = spec(server, "md5:" + hashlib.md5(server.content).hexdigest())
    for _ in range(2):
        source, found = fetch(entry)
        assert len(source.read(found, True)) == 1
        assert found["ratings"].path == cache_folder() / "downloads" / "tiny" / "tiny.zip"
    assert len(server.requests) == 1
    assert (cache_folder() / ".gitignore").read_text() == "*\n"


def test_fetch_prefers_local_files(data, server):
    data.write("tiny/ratings.csv", RATINGS)
    data.write("tiny/movies.csv", MOVIES)
    fetch(spec(server))
    assert server.requests == []


def test_fetch_reports_a_wrong_checksum(data, server):
    with pytest.raises(SeqRecError, match=r"wrong checksum of tiny.zip: md5 is [0-9a-f]{32}, expected 0{32}"):
        fetch(spec(server, "md5:" + "0" * 32))
    assert (cache_folder() / "downloads" / "tiny" / "tiny.zip.bad").is_file()


def test_missing_files_say_where_it_looked_and_how_to_get_them(data, server):
    server.status = 503
    with pytest.raises(SeqRecError) as caught:
        fetch(spec(server))
    message = str(caught.value)
    where, how = str(data.root / "tiny"), server.url.removesuffix("file.bin")
    for part in ("'tiny'", "ratings.csv", "tiny.zip", where, "SEQREC_DATA", how, "503"):
        assert part in message
    with pytest.raises(SeqRecError, match=r"see https://example.org"):
        fetch(spec())


def test_every_entry_can_say_that_it_is_missing():
    message = missing(get("amazon-2014-beauty"))
    assert "interactions.csv + item_titles.csv or reviews_Beauty.json + meta_Beauty.json" in message
    assert "reviews_Beauty.json.gz" in message
