"""Results: what a run was and gave (`record`), where it comes from (`provenance`), where records are kept (`store`),
and how they travel (`transfer`)."""

from seqrec_lib.results.provenance import environment, fingerprint, hardware
from seqrec_lib.results.record import (
    ADDED_LATER,
    RunRecord,
    canonical_json,
    now,
    parse_record,
    plain,
    read_record,
    run_key,
)
from seqrec_lib.results.store import RunStore

__all__ = [
    "ADDED_LATER",
    "RunRecord",
    "RunStore",
    "canonical_json",
    "environment",
    "fingerprint",
    "hardware",
    "now",
    "parse_record",
    "plain",
    "read_record",
    "run_key",
]
