"""Results: what a run was and gave (`record`), what lies beside it (`tables`), which code and machine it comes from
(`code`, `provenance`), where records are kept (`store`), and how they travel (`transfer`)."""

from seqrec_lib.results.provenance import environment, hardware
from seqrec_lib.results.record import ADDED_LATER, RunRecord, canonical_json, now, plain, run_key, without_seed
from seqrec_lib.results.store import RunStore

__all__ = [
    "ADDED_LATER",
    "RunRecord",
    "RunStore",
    "canonical_json",
    "environment",
    "hardware",
    "now",
    "plain",
    "run_key",
    "without_seed",
]
