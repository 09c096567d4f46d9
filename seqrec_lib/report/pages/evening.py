"""One simulated evening: a figure and a table of the chapter on the order of time, and what a reader reorders on the
page *Try it* (book/try.md). book/_static/live/evening.js follows the same rules, and a test compares the two."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from seqrec_lib.data.simulate import simulate
from seqrec_lib.report import kit
from seqrec_lib.report.frames import Runs
from seqrec_lib.report.html import Html
from seqrec_lib.report.values import exhibit, figure, table

LETTERS = "ABCDEFG"
BREAK = 8 * 3600  # seconds between two evenings
RATED_AFTER = np.array([0, 0, 24, 24, 118, 140, 140])  # seconds: somebody goes through a list and rates what they know


def unstable_keys(n: int) -> np.ndarray:
    """Numbers by which n rows of a file come out of an unstable sort where they are tied: (n,)."""
    return np.random.default_rng(0).random(n)


@cache
def evening() -> pd.DataFrame:
    """One simulated user's last evening in four orders: a row for each order and place, with the film's letter.

    User and films are the simulator's. It enters an evening's films at one moment; here they are rated within
    minutes, and stand in the file in another order than that of time, as in MovieLens. Taken is the first user with
    seven films whose first three orders end with three different films."""
    data = simulate()
    users, numbers = np.asarray(data.users.tolist()), np.asarray(data.items.tolist())
    starts = np.flatnonzero(np.diff(users, prepend=-1))
    for user, (start, stop) in enumerate(zip(starts, [*starts[1:], len(users)], strict=True)):
        entered = data.timestamps[start:stop]
        late = np.flatnonzero(np.diff(entered, prepend=entered[0] - BREAK - 1) > BREAK)[-1]
        if len(entered) - late != len(RATED_AFTER):
            continue
        rows = np.random.default_rng(user).permutation(len(RATED_AFTER))
        films, times = numbers[start:stop][late:][rows], entered[late] + RATED_AFTER[rows]
        orders = {
            "True order: by time, ties as in the file": np.lexsort((times,)),
            "RecBole: by rounded time, ties as in the file": np.lexsort((times.astype(np.float32),)),
            "LRURec: by time, ties by the film's number": np.lexsort((films, times)),
            "HSTU: by time, ties as the sort leaves them": np.lexsort((unstable_keys(len(rows)), times)),
        }
        if len({int(order[-1]) for order in list(orders.values())[:3]}) < 3:
            continue
        first, *_ = orders.values()
        letters = dict(zip(films[first], LETTERS, strict=True))
        return pd.DataFrame(
            {
                "order": title,
                "place": place,
                "letter": letters[films[row]],
                "film": data.titles[int(films[row])],
                "number": int(films[row]),
                "row of the file": int(row) + 1,
                "seconds": int(times[row] - times.min()),
                "tied as": int((times.astype(np.float32) if "RecBole" in title else times)[row]),
                "test item": place == len(rows),
            }
            for title, order in orders.items()
            for place, row in enumerate(order, 1)
        )
    raise AssertionError("no simulated user has such an evening")


def the_file() -> pd.DataFrame:
    """The evening's rows as they stand in the file."""
    frame = evening()
    return frame[frame["order"] == frame["order"].iloc[0]].sort_values("row of the file")


figure("orders-evening", "lanes", lane="order", name="letter", tie="tied as", last="test item")(lambda runs: evening())
table(
    "orders-films",
    kit.Column("row of the file", "Row of the file", "d"),
    kit.Column("letter", "Letter"),
    kit.Column("number", "Film's number", "d"),
    kit.Column("seconds", "Seconds since the first", ",d"),
)(lambda runs: the_file())


def evening_data() -> dict[str, Any]:
    """The evening as evening.js takes it: titles of the rules, the file's rows, the keys of the unstable sort."""
    frame = evening()
    keys = {"letter": "letter", "film": "title", "number": "number", "tied as": "time"}
    rows = the_file().rename(columns=keys)[[*keys.values()]].to_dict("records")
    return {"rules": list(dict.fromkeys(frame["order"])), "rows": rows, "keys": unstable_keys(len(rows)).tolist()}


def _panel(data: dict[str, Any], *, caption: str) -> Html:
    given = json.dumps(data).replace("</", "<\\/")
    html = (
        '<div id="evening" class="live">\n'
        f'<script type="application/json">{given}</script>\n'
        f"<p>{escape(caption)}</p>\n"
        '<div class="live-columns">\n'
        '<div><h3>The file</h3><ol data-part="file"></ol>'
        '<button type="button" data-part="reset">As it was</button></div>\n'
        '<div><h3>Under each rule</h3><div data-part="orders"></div></div>\n'
        '</div>\n<p data-part="said" role="status" class="visually-hidden"></p>\n</div>\n'
        '<script src="_static/live/evening.js"></script>'
    )
    return Html(html, caption)


@exhibit("evening-by-hand")
def _evening_by_hand(runs: Runs) -> Callable[..., Html]:
    return partial(_panel, evening_data())
