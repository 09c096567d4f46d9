"""Runs a compiled kernel over independent tasks on PyTorch's own threads.

A kernel is a numba `cfunc` that takes the address of an int64 block `[counter, n_tasks, argument, argument, ...]`
(pointers and sizes) and works off tasks until the counter has reached n_tasks; `next_task` takes the next one
atomically. Any number of threads may run the same kernel on the same block, and uneven tasks balance themselves.

The threads are those of the OpenMP library that PyTorch has loaded (entry point `GOMP_parallel`, which GNU's,
LLVM's and Intel's libraries share). A second pool of threads would compete with PyTorch's, which keep spinning for
a few milliseconds after each matrix product. Where that library is not found, and in a forked child (OpenMP does
not survive a fork), Python threads run the same kernels: the compiled code does not hold the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

KERNEL = types.void(types.int64)  # the signature of every kernel
_HOME = os.getpid()


def run(kernel: Any, n_tasks: int, *arguments: torch.Tensor | int) -> None:
    """Runs tasks 0 .. n_tasks - 1 of a kernel on at most `torch.get_num_threads()` threads; returns when all are done.

    Args:
        kernel: numba cfunc of signature `KERNEL`.
        n_tasks: number of tasks.
        arguments: contiguous CPU tensors (passed as their addresses) and integers, in the kernel's order.
    """
    block = np.empty(2 + len(arguments), dtype=np.int64)
    block[0], block[1] = 0, n_tasks
    for i, argument in enumerate(arguments, start=2):
        block[i] = argument if isinstance(argument, int) else argument.data_ptr()
    address = block.ctypes.data
    n_threads = min(torch.get_num_threads(), n_tasks)
    if n_threads <= 1:
        kernel.ctypes(address)
    elif (parallel := _openmp()) is not None and os.getpid() == _HOME:
        parallel(kernel.address, address, n_threads, 0)
    else:
        pool = _python_threads(os.getpid())
        futures = [pool.submit(kernel.ctypes, address) for _ in range(n_threads - 1)]
        kernel.ctypes(address)
        for future in futures:
            future.result()


@functools.cache
def _openmp() -> Callable[[int, int, int, int], None] | None:
    """`GOMP_parallel` of the OpenMP library that PyTorch has loaded, or None."""
    torch.ones(1 << 16).add_(1)  # a parallel operation: the library is loaded now, if it was not before
    for path in _openmp_libraries():
        try:
            function = ctypes.CDLL(path).GOMP_parallel
        except (OSError, AttributeError):
            continue
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        function.restype = None
        return function
    return None


def _openmp_libraries() -> list[str]:
    """Loaded OpenMP libraries, PyTorch's own first."""
    names = ("libgomp", "libiomp5", "libomp")
    try:
        mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "omp" in line}
    except OSError:  # not Linux
        mapped = {str(path) for path in (Path(torch.__file__).parent / "lib").glob("lib*omp*")}
    found = sorted(path for path in mapped if Path(path).name.startswith(names))
    return sorted(found, key=lambda path: f"{os.sep}torch" not in path)


@functools.lru_cache(maxsize=1)
def _python_threads(pid: int) -> ThreadPoolExecutor:
    """A pool that belongs to this process (`pid` is the key: a forked child must not use its parent's)."""
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="seqrec-ssm")


# ---- used inside the kernels --------------------------------------------------------------------------------------


@intrinsic
def next_task(typing_context: Any, address: Any) -> Any:
    """Takes the next task: returns the counter at the head of the block and adds one to it, atomically."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.int64), code


@intrinsic
def float32_at(typing_context: Any, address: Any) -> Any:
    """Pointer to the float32 numbers at an address (for `numba.carray`)."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.FloatType().as_pointer())

    return types.CPointer(types.float32)(types.int64), code


@intrinsic
def int64_at(typing_context: Any, address: Any) -> Any:
    """Pointer to the int64 numbers at an address (for `numba.carray`)."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())

    return types.CPointer(types.int64)(types.int64), code
