"""Compiled float32 kernels of the state-space mixers for the CPU (numba), each behind a `torch.autograd.Function`.

Importing this package needs numba and compiles the kernels once; numba then keeps them in its cache on disk, so
that later processes load them in a fraction of a second. Nothing outside `seqrec_lib.ssm` imports it: the public
functions of the mixers call it when `seqrec_lib.ssm.backends.choose` says so. numba's cache knows a kernel by its own
file: after a change in `elementary` or `threads`, delete the `__pycache__` of this folder.

Why numba and not C++ compiled on first use: the kernels reach the same vector instructions (LLVM), and a reader
needs no compiler. Why not plain PyTorch: the selective scan keeps d_inner x d_state numbers per token, and each
PyTorch operation would write all of them to memory; a fused loop keeps them in the first-level cache.
"""
