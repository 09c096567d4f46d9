"""Writes the small raw files of the goldens, one folder for each published form of a data set. No real user or item.

They were written once and are committed; this script says how, and is not run by the tests. Histories follow a random
walk over the items, so that there is something to learn. A few users are long enough for several chunks and windows,
timestamps come in evenings whose ratings share a second or a float32 bucket, and items below the 5-core are among them.

    python tests/golden/make_raw.py
"""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np

RAW = Path(__file__).parent / "raw"
KINDS = ("Harbour", "Orchard", "Lantern", "Meadow", "Glacier", "Quarry")
SIGNS = ("North", "Early", "Second", "Quiet", "Last", "Red")


def interactions(users: int, items: int, longest: int, seed: int) -> list[tuple[int, int, int, int]]:
    """Rows (user, item, rating, seconds), users and items from 1, not in the order of time."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(1, users + 1):
        length = longest if user % 12 == 0 else int(rng.integers(5, 22))
        item, second = int(rng.integers(items)), 956_700_000 + int(rng.integers(40_000_000))
        for _ in range(length):
            rows.append((user, item + 1, int(rng.integers(1, 6)), second))
            item = int(rng.integers(items)) if rng.random() < 0.3 else (item + int(rng.choice([1, 1, 1, 2, 7]))) % items
            second += int(
                rng.choice([0, 0, 5, 30, 90, 86_400])
            )  # equal, in one bucket of 64 s, in another, a day later
    rows += [(users + 1 + n, items + 1 + n, 3, 960_000_000 + n) for n in range(3)]  # leave with the 5-core
    return [rows[i] for i in rng.permutation(len(rows))]


def title(item: int) -> str:
    """A made-up title; the seventh has a comma, the ninth letters beyond ASCII."""
    text = f"{SIGNS[item % 6]} {KINDS[item // 6 % 6]}"
    return {7: f"{text}, The", 9: f"{text} d'été"}.get(item, text) + f" ({1930 + item})"


def write(path: str, lines: list[str], encoding: str = "utf-8", end: str = "\n") -> None:
    target = RAW / path
    target.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(line + end for line in lines).encode(encoding)
    target.write_bytes(gzip.compress(data, mtime=0) if path.endswith(".gz") else data)


def quoted(cells: list[object]) -> str:
    from io import StringIO

    out = StringIO()
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue()


def main() -> None:
    rows = interactions(72, 90, 150, seed=1)
    ids = range(1, 94)
    write(
        "first/ml-latest-small/ratings.csv",
        ["userId,movieId,rating,timestamp", *(f"{u},{i},{r}.0,{t}" for u, i, r, t in rows)],
        end="\r\n",
    )
    write(
        "first/ml-latest-small/movies.csv",
        ["movieId,title,genres", *(quoted([i, title(i), "Drama"]) for i in ids)],
        end="\r\n",
    )
    few = interactions(24, 20, 40, seed=2)
    ids = range(1, 24)
    write("first/ml-1m/ratings.dat", [f"{u}::{i}::{r}::{t}" for u, i, r, t in few])
    write("first/ml-1m/movies.dat", [f"{i}::{title(i)}::Drama" for i in ids], "latin-1")
    write("first/ml-100k/u.data", [f"{u}\t{i}\t{r}\t{t}" for u, i, r, t in few])
    write("first/ml-100k/u.item", [f"{i}|{title(i)}|01-Jan-1995||http://example.org|0" for i in ids], "latin-1")
    ordered = sorted(few, key=lambda row: (row[0], row[3]))
    for name in ("amazon-2014-beauty", "amazon-2018-video-games"):
        write(
            f"first/{name}/interactions.csv",
            ["user_id,item_id,timestamp", *(f"{u},{i},{t - t % 86_400}" for u, i, _, t in ordered)],
        )
        write(f"first/{name}/item_titles.csv", ["item_id,title", *(quoted([i, title(i)]) for i in ids)])

    def review(keys: tuple[str, str, str, str], row: tuple[int, int, int, int], scale: int) -> str:
        u, i, r, t = row
        return json.dumps(dict(zip(keys, (f"U{u:03}", f"B{i:03}", float(r), t * scale), strict=True)))

    old = ("reviewerID", "asin", "overall", "unixReviewTime")
    write("second/amazon-2014-beauty/reviews_Beauty.json.gz", [review(old, row, 1) for row in few])
    write(
        "second/amazon-2014-beauty/meta_Beauty.json.gz",
        [repr({"asin": f"B{i:03}", "title": title(i)}) if i != 5 else repr({"asin": "B005"}) for i in ids],
    )
    write("second/amazon-2018-video-games/Video_Games.json.gz", [review(old, row, 1) for row in few])
    write(
        "second/amazon-2018-video-games/meta_Video_Games.json.gz",
        [json.dumps({"asin": f"B{i:03}", "title": title(i)}) for i in ids],
    )
    new = ("user_id", "parent_asin", "rating", "timestamp")
    meta = [json.dumps({"parent_asin": f"B{i:03}", "title": title(i)}, ensure_ascii=False) for i in ids]
    write("first/amazon-2023-video-games/Video_Games.jsonl.gz", [review(new, row, 1000) for row in few])
    write("first/amazon-2023-video-games/meta_Video_Games.jsonl.gz", meta)
    write(
        "second/amazon-2023-video-games/Video_Games.csv.gz",
        ["user_id,parent_asin,rating,timestamp", *(f"U{u:03},B{i:03},{r}.0,{t}000" for u, i, r, t in few)],
    )
    write("second/amazon-2023-video-games/meta_Video_Games.jsonl.gz", meta)


if __name__ == "__main__":
    main()
