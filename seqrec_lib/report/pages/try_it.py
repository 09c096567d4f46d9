"""The page *Try it* (book/try.md): one simulated evening whose file the reader puts in another order.

The rules are those of `orders.evening`; book/_static/live/evening.js follows them, and a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any

from seqrec_lib.report.frames import Runs
from seqrec_lib.report.html import Html
from seqrec_lib.report.pages.orders import evening, unstable_keys
from seqrec_lib.report.values import exhibit


def evening_data() -> dict[str, Any]:
    """The evening as evening.js takes it: titles of the rules, the file's rows, the keys of the unstable sort."""
    frame = evening()
    true = frame[frame["order"] == frame["order"].iloc[0]].sort_values("row of the file")
    rows = [
        {"letter": row["letter"], "title": row["film"], "number": row["number"], "time": row["tied as"]}
        for row in true.to_dict("records")
    ]
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
