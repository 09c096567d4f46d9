"""The front page (book/index.md): what its three results rest on. Its figure is the one of the order of time."""

from __future__ import annotations

from seqrec_lib.evaluate.statistics import ratio
from seqrec_lib.report.claims import SSM
from seqrec_lib.report.frames import Runs
from seqrec_lib.report.scaling import BEST, Scaling
from seqrec_lib.report.statements import Evidence, difference, greatest, statement


@statement("true-order-no-state-space-model-hits-more-than-sasrec", seeds=(0, 1, 2))
def _no_lead(runs: Runs) -> Evidence:
    """HT@10, the best of Mamba4Rec, 2Mamba4Rec and Hydra4Rec minus SASRec.

    MovieLens 1M, seen items ranked, each user's mean over the seeds, paired by user: none of the three differences
    has a 95 % interval that lies above 0."""
    pairs = [(("ml-1m", model), ("ml-1m", "sasrec")) for model in SSM]
    return greatest([difference(runs, *pair, "ht@10", lambda lead: lead.low <= 0) for pair in pairs])


@statement("at-8000-items-attention-takes-over-ten-times-as-long")
def _attention(runs: Runs) -> Evidence:
    """Time to read 8,000 items, SASRec in units of Mamba4Rec.

    One core, batch 1, random weights. Each model by the faster of its two programs, its PyTorch module and the one
    compiled for serving, chosen by the median over rounds. The interval is over rounds and lies above 10."""
    scaling = Scaling.newest(runs, "ml-1m")
    slow, fast = (scaling.curve("length", name, BEST).loc[8_000].to_numpy() for name in ("sasrec", "mamba4rec"))
    found = ratio(slow, fast)
    return Evidence.of(found.low > 10, found, len(slow), (scaling.record.run_id,), "rounds")
