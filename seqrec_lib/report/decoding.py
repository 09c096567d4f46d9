"""One request at a time to language models and to the models beside them, from the benchmark `query_latency`
(benchmarks/results/query_latency.json): which programs there are, and how long one takes beside another.

Time per user and tokens per second are two quantities, though the paper's tables print one number for both.
"""

from __future__ import annotations

import numpy as np

from seqrec_lib.evaluate.statistics import Interval, ratio
from seqrec_lib.report.benchmarks import Record

LANGUAGE = ("gpt4rec", "mamrec", "llamarec")
WAYS = {
    "free": "free queries, BM25",
    "held": "held to titles",
    "paper": "free queries, the paper's size",
    "ranker": "nothing: one pass over candidates",
    "paper-ranker": "nothing: one pass, Llama-2 7B's size, bfloat16",
}
"""The path of a language model -> what it writes for a request."""


def latency_ratio(record: Record | None, dataset: str, slow: tuple[str, str], fast: tuple[str, str]) -> Interval | None:
    """How many times as long ``slow`` (model, path) takes as ``fast`` on the same users, block by block; None: it
    was not run."""
    part = None if record is None else record["datasets"].get(dataset)
    blocks = (
        {} if part is None else {(own["model"], own["path"]): own["block_milliseconds"] for own in part["contestants"]}
    )
    if slow not in blocks or fast not in blocks:
        return None
    a, b = np.array(blocks[slow]), np.array(blocks[fast])
    both = min(len(a), len(b))  # the paper's sizes take part in the first blocks only
    return ratio(a[:both], b[:both])
