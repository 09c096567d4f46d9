"""The front page (book/index.md): what its three results rest on. Its figure is the one of the order of time."""

from __future__ import annotations

from seqrec_lib.report.claims import SSM
from seqrec_lib.report.frames import TRUE_ORDER, Runs
from seqrec_lib.report.pages.which_model import length_ratio
from seqrec_lib.report.statements import Evidence, difference, statement


@statement(
    "true-order-no-state-space-model-hits-more-than-sasrec",
    measures="HT@10, the best of Mamba4Rec, 2Mamba4Rec and Hydra4Rec minus SASRec",
    orders=[TRUE_ORDER],
    device="cpu",
    seeds=(0, 1, 2),
)
def _no_lead(runs: Runs) -> Evidence:
    """MovieLens 1M, seen items ranked, each user's mean over the seeds, paired by user: none of the three differences
    has a 95 % interval that lies above 0."""
    leads = [
        difference(runs, ("ml-1m", model), ("ml-1m", "sasrec"), "ht@10", lambda _, low, __: low <= 0) for model in SSM
    ]
    best = max(leads, key=lambda lead: lead.estimate)
    ids = tuple(dict.fromkeys(run_id for lead in leads for run_id in lead.run_ids))
    return Evidence(all(lead.held for lead in leads), best.estimate, best.low, best.high, best.n, ids)


@statement(
    "at-8000-items-attention-takes-over-ten-times-as-long",
    measures="time to read 8,000 items, SASRec in units of Mamba4Rec",
    orders=[TRUE_ORDER],
    device="cpu",
    seeds=None,
)
def _attention(runs: Runs) -> Evidence:
    """One core, batch 1, random weights. Each model by the faster of its two programs, its PyTorch module and the one
    compiled for serving, chosen by the median over rounds. The interval is over rounds and lies above 10."""
    found, rounds, run_id = length_ratio(runs, "mamba4rec", 8_000)
    held = found.low > 10
    return Evidence(held, found.estimate, found.low, found.high, rounds, (run_id,), "rounds")
