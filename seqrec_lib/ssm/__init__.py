"""State-space mixers: Mamba (selective scan), Mamba-2 (state-space duality), Hydra (quasiseparable).

Each is an `nn.Module` from (batch, length, d_model) to the same shape, exact under padding, with the parameter names of
the public implementations, and runs on compiled kernels on the CPU and on a GPU. `selective_scan`, `ssd` and
`quasiseparable` hold the recurrences to read; `backends` says which implementation runs, `agreement` checks it.
"""

from seqrec_lib.ssm.agreement import checked, preflight
from seqrec_lib.ssm.backends import describe
from seqrec_lib.ssm.quasiseparable import Hydra, quasiseparable_reference
from seqrec_lib.ssm.selective_scan import Mamba, selective_scan_reference
from seqrec_lib.ssm.ssd import Mamba2, ssd_matrix, ssd_reference

__all__ = [
    "Hydra",
    "Mamba",
    "Mamba2",
    "checked",
    "describe",
    "preflight",
    "quasiseparable_reference",
    "selective_scan_reference",
    "ssd_matrix",
    "ssd_reference",
]
