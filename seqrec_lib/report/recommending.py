"""Tables of the speed page on recommending: this library's models as they are served, beside RecBole and RecTools.

From the record of benchmarks/recommend_speed.py. Ways with the same longest history are compared, no others.
"""

from __future__ import annotations

from seqrec_lib.report.benchmarks import Record, conditions, missing, versions
from seqrec_lib.report.html import Html, bullets, stack, table
from seqrec_lib.report.paper import dataset_name

NAME = "recommend_speed"


def _lengths(record: Record) -> list[int]:
    return sorted({row["length"] for row in record["rows"]}, reverse=True)


def requests_table(record: Record | None) -> Html:
    """Every way to recommend: milliseconds for one user, users per second in batches; a table for each length."""
    if record is None:
        return missing(NAME)
    tables = [_ways(record, length) for length in _lengths(record)]
    used = f"Versions: {versions(row['versions'] for row in record['rows'])}."
    return stack([*tables, bullets([conditions(record), used])])


def _ways(record: Record, length: int) -> Html:
    setting = record["setting"]
    rows = [row for row in record["rows"] if row["length"] == length]
    sizes = [size for size in rows[0]["users_per_second"] if size != "1"]
    body = [
        [
            row["label"],
            f"{row['parameters']:,}",
            f"{row['milliseconds']:.2f}",
            f"{row['p95_milliseconds']:.2f}",
            *(f"{row['users_per_second'][size]:,.0f}" for size in sizes),
            f"{row['peak_memory_bytes'] / 2**30:.1f}",
        ]
        for row in rows
    ]
    fewer = [f"{row['label']} knows {row['items']:,}" for row in rows if row["items"] != setting["items"]]
    return table(
        ["Way", "Parameters", "One user, ms", "p95, ms", *(f"Users/s by {size}" for size in sizes), "GiB"],
        body,
        caption=f"The {setting['k']} best of {setting['items']:,} items ({dataset_name(setting['dataset'])}) for "
        f"histories of up to {length} items",
        notes=[
            f"Medians over {rows[0]['calls']} users, the same for all ways, which take turns; weights are random. "
            "Users/s by n: n users in one call. GiB: the whole process at its peak, data and, for our models, all of "
            "them included." + (f" Of the items, {'; '.join(fewer)}." if fewer else "")
        ],
    )


def factors_table(record: Record | None) -> Html:
    """By which factor each of our models is faster than each package at the same length, and the goal."""
    if record is None:
        return missing(NAME)
    rows = {row["name"]: row for row in record["rows"]}
    body: list[list[str | Html]] = []
    for pair in sorted(
        record["pairs"], key=lambda pair: (rows[pair["theirs"]]["label"], -rows[pair["ours"]]["length"])
    ):
        ours, theirs = rows[pair["ours"]], rows[pair["theirs"]]
        body.append(
            [
                theirs["label"],
                ours["label"],
                str(ours["length"]),
                f"{pair['times_as_fast']:.1f}",
                f"{pair['goal']:g}",
                "reached" if pair["times_as_fast"] >= pair["goal"] else "missed",
                f"{pair['times_as_fast_in_batches']:.1f}",
            ]
        )
    setting = record["setting"]
    return table(
        ["Package", "Our model", "Length", "One user", "Goal", "Reached", "Batches"],
        body,
        caption="How many times as fast this library answers",
        notes=[
            f"One user: median over {setting['rounds']} rounds of the ratio of medians. Batches: each side at "
            "the batch size that suits it best."
        ],
        left=(0, 1, 5),
    )
