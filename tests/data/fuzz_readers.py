"""Generated files for the readers of data sets, for the tests and to be run by hand for some minutes.

``python -m tests.data.fuzz_readers --seconds 180 --seed 0`` generates files until the time is up and stops at the
first that breaks a promise: that a table gives the same rows, the same number of bad lines or the same error with
pyarrow and line by line, however the file is cut into blocks; and that a reader of any format ends in rows or in an
expected error, whatever is done to its files. It prints the file that broke it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from unittest import mock

from seqrec_lib.data import interactions, readers, tables
from seqrec_lib.data.files import RawFile
from seqrec_lib.data.tables import BadLines, Table, read_table
from seqrec_lib.errors import SeqRecError

NAMES = {"user": "u", "item": "i", "timestamp": "t"}
RATED = NAMES | {"rating": "r"}
LAYOUTS = (
    Table("::", RATED, ("u", "i", "r", "t"), quotes=False),
    Table("\t", RATED, ("u", "i", "r", "t"), quotes=False),
    Table(",", RATED),
    Table(",", NAMES),
    Table(",", RATED, labels=str),
    Table("\t", RATED, ("u", "i", "r", "t"), labels=str, quotes=False),
)
ODD = (
    *("", " ", "0", "-0", "7", "-12", "+5", "007", "00000000000000000000042", "9" * 19, "9" * 20),
    *("-9223372036854775808", "9223372036854775807", "9223372036854775808", "0" * 5000 + "1", "1" * 400),
    *("0x1F", "0X1F", "-0x1", "0b1", "1_0"),
    *("５", "٣", "²", "1,5", "4.", ".5", "-.5", ".", "-", "3.0", "1e3", "1E+3", "1e-400", "1e400", "3.4028235e38"),
    *("3.4028236e38", "3.4028235677973366e38", "-3.5e38", "16777217", "0.1", "1e-46", "0x1p3", "nan", "NaN", "inf"),
    *("Infinity", "null", "NA", "None", "true", " 5", "5 ", "\t5", "\u00a05", "5\u2003", "5\x0b", "5\0", "\x1b[2J"),
    *('"5"', '""5', '"5', '5"', '""', '"', '"a,b"', '"a ""b"" c"', '"a"b', 'a"b', '"a" ', ' "a"', '"a\tb"', "'5'"),
    *("\ufeff5", "5\ufeff", "\r", "5\r", "\u2028", "\u0085", "A", "é", "夏", "😀", "a b", "::", ":", "#5", "\\", '\\"'),
)  # fmt: skip
RAW = (
    b"\xff",
    b"\xe9",
    b"\xc3\xa9",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\0",
    b"\r",
    b"\n",
    b'"',
    b",",
    b"0",
)


def plain_cell(rng: random.Random, name: str, layout: Table) -> str:
    """What such a cell holds in a file that is in order."""
    if name in {"u", "i"} and layout.labels is str:
        return rng.choice(("A1", "B2", "user 3", "é", "0X1F", '"q, r"' if layout.separator == "," else "q"))
    if name == "r":
        return rng.choice(("5", "3.5", "0.5", "4.0"))
    return str(rng.choice((rng.randrange(10), rng.randrange(10**6), rng.randrange(10**12))))


def table_file(rng: random.Random, layout: Table, oddness: float) -> bytes:
    """A table of few lines, of whose cells, ends and bytes about the share ``oddness`` is odd."""
    names = list(layout.names or ("u", "i", "r", "t"))
    if not layout.names:
        rng.shuffle(names)
        if rng.random() < oddness:
            names.insert(rng.randrange(5), rng.choice(("extra", "u", "r", "", '"x,y"', "\ufeffu", "U")))
    cells = ["".join(c for c in name if c not in '"\ufeff') for name in names]
    lines = [layout.separator.join(names)] if not layout.names else []
    for _ in range(rng.randrange(1, 6)):
        row = [rng.choice(ODD) if rng.random() < oddness / 4 else plain_cell(rng, name, layout) for name in cells]
        if rng.random() < oddness / 4:
            row.insert(rng.randrange(len(row) + 1), rng.choice(ODD))
        separator = rng.choice(("::", "\t", ",", " ")) if rng.random() < oddness / 8 else layout.separator
        lines.append(separator.join(row))
        if rng.random() < oddness / 4:
            lines.append(rng.choice(("", " ", "\t", ",", ",,,", '""', "\u00a0")))
    end = rng.choice(("\n", "\n", "\r\n"))
    text = "".join(
        line + (rng.choice(("\n", "\r\n", "\r", "\r\r\n")) if rng.random() < oddness / 8 else end) for line in lines
    )
    if rng.random() < 0.3:
        text = text.rstrip("\r\n")
    if rng.random() < 0.2:
        text = "\ufeff" + text
    content = text.encode("utf-8", "surrogatepass")
    return damage(rng, content) if rng.random() < oddness / 4 else content


def damage(rng: random.Random, content: bytes) -> bytes:
    """One to three bytes or pieces changed, lost, doubled or put in."""
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(content) + 1)
        until = min(len(content), at + rng.choice((1, 1, 3, 20)))
        piece = rng.choice(
            (b"", content[at:until] * 2, rng.choice(RAW), rng.randbytes(1), rng.choice(ODD).encode(), bytes(until - at))
        )
        content = content[:at] + piece + content[rng.choice((at, until)) :]
    return content


def outcome(raw: RawFile, layout: Table, size: int) -> tuple[object, ...]:
    """What reading gives: an error, or the rows with the number of bad lines."""
    bad = BadLines(False)
    with mock.patch.object(RawFile.blocks, "__defaults__", (size,)):
        try:
            read = read_table(raw, layout, {}, bad)
        except SeqRecError as error:
            return ("error", str(error))
    rated = None if read.ratings is None else read.ratings.tobytes()
    return read.users.tolist(), read.items.tolist(), read.timestamps.tolist(), rated, bad.count


def check_table(raw: RawFile, layout: Table, sizes: tuple[int, ...] = (1 << 23, 64)) -> int:
    """Raises AssertionError where the two ways, or two sizes of block, differ; returns how many blocks went fast."""
    fast, taken = tables.split_block, 0

    def count(*arguments: object) -> object:
        nonlocal taken
        found = fast(*arguments)  # type: ignore[arg-type]
        taken += 1
        return found

    def refuse(*_: object) -> object:
        raise ValueError("refused")

    with mock.patch.object(tables, "split_block", refuse):
        expected = outcome(raw, layout, sizes[0])
    for size in sizes:
        with mock.patch.object(tables, "split_block", count):
            found = outcome(raw, layout, size)
        assert found == expected, f"by blocks of {size}: {found}\nline by line: {expected}"
    return taken


def _json_lines(records: list[dict[str, object]], form: object = json.dumps) -> bytes:
    return "".join(form(record) + "\n" for record in records).encode()  # type: ignore[operator]


_OLD = [{"reviewerID": f"A{u}", "asin": f"B{u % 3}", "overall": 5.0, "unixReviewTime": 10 + u} for u in range(4)]
_NEW = [{"user_id": f"A{u}", "parent_asin": f"B{u % 3}", "rating": 4, "timestamp": 10 + u} for u in range(4)]
FORMATS: dict[str, tuple[readers.Reader, bytes, bytes]] = {
    "ml-1m": (readers.movielens_1m, b"1::2::5::7\n2::2::4::8\n", "2::Amélie (2001)::Drama\n".encode("latin-1")),
    "ml-100k": (readers.movielens_100k, b"1\t2\t5\t7\n2\t2\t4\t8\n", "2|Amélie|x|y|0\n".encode()),
    "csv": (
        readers.movielens_csv,
        b"userId,movieId,rating,timestamp\r\n1,2,4.5,7\r\n",
        b'movieId,title,genres\r\n2,"Comma, The ""Film""",Drama\r\n',
    ),
    "processed": (readers.processed_csv, b"user_id,item_id,timestamp\n1,2,7\n", b'item_id,title\n2,"two\nlines"\n'),
    "2023 csv": (
        readers.amazon_2023_csv,
        b"user_id,parent_asin,rating,timestamp\nA,B1,5.0,7\n",
        b'{"parent_asin": "B1", "title": "One"}\n',
    ),
    "2023 json": (readers.amazon_2023_json, _json_lines(_NEW), b'{"parent_asin": "B1", "title": "One \\u00e9"}\n'),
    "2018": (readers.amazon_reviews, _json_lines(_OLD), b'{"asin": "B1", "title": "One"}\n'),
    "2014": (readers.amazon_reviews, _json_lines(_OLD, repr), b"{'asin': 'B1', 'title': \"It's\", 'price': 1.5}\n"),
}


def pack(rng: random.Random, path: Path, content: bytes) -> RawFile:
    """The content as a plain file, gzipped or in a zip archive, which may be damaged itself."""
    kind = rng.choice(("plain", "plain", "gz", "zip"))
    member = None
    if kind == "zip":
        member = path.name
        with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))) as archive:
            archive.writestr(member, content)
    else:
        path.write_bytes(gzip.compress(content, 1) if kind == "gz" else content)
    if kind != "plain" and rng.random() < 0.3:
        path.write_bytes(damage(rng, path.read_bytes()))
    return RawFile(path, member)


def check_format(rng: random.Random, folder: Path, kind: str, oddness: float) -> str:
    """Read a damaged pair of files in either mode and name how it went; anything but an expected error is raised."""
    read, ratings, titles = FORMATS[kind]
    contents = [damage(rng, content) if rng.random() < oddness else content for content in (ratings, titles)]
    files = {
        role: pack(rng, folder / role, content) for role, content in zip(("ratings", "titles"), contents, strict=True)
    }
    try:
        rows = read(files, rng.random() < 0.5)
        assert all(isinstance(title, str) for title in rows.titles.values())
        "".join(rows.titles.values()).encode()
        if len(rows):
            interactions.drop_untitled(interactions.k_core(rows, 1))
    except SeqRecError:
        return "an error"
    return "rows" if len(rows) else "no rows"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, counts = random.Random(options.seed), Counter[str]()
    end = time.monotonic() + options.seconds
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder, file = Path(name), RawFile(Path(name) / "table")
        try:
            while time.monotonic() < end:
                oddness = rng.choice((0.0, 0.1, 0.5, 1.0))
                layout = rng.choice(LAYOUTS)
                file.path.write_bytes(table_file(rng, layout, oddness))
                taken = check_table(file, layout)
                counts["tables read alike, " + ("with pyarrow in part" if taken else "line by line")] += 1
                kind = rng.choice(list(FORMATS))
                counts[f"{kind}: {check_format(rng, folder, kind, oddness)}"] += 1
        except BaseException:
            for path in sorted(folder.iterdir()):
                print(f"{path.name}: {path.read_bytes()!r}")
            print(f"layout: {layout}, seed {options.seed} after {sum(counts.values())}")
            raise
    for what, count in sorted(counts.items()):
        print(f"{count:9,}  {what}")


if __name__ == "__main__":
    main()
