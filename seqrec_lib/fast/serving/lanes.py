"""Eight float32 numbers as one value of a compiled loop: loads, stores, arithmetic, and 2^x.

A loop over an array's elements is vectorised too, but its running value is then a row in memory, read and written at
every step, after a check that no array overlaps another: at eight numbers that costs more than the arithmetic. A value
of this type stays in a register. LLVM splits it where the processor's vectors are shorter.

    s = zeros()
    for t in range(length):
        s = s * decay[t] + load(x, t * LANES)   # lanes times a number, lanes plus lanes

Values of this type live inside compiled functions only; to Python they can't be handed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.extending import intrinsic, models, register_model, type_callable

from seqrec_lib.fast.kernels.elementary import FAST, f32
from seqrec_lib.fast.serving.kernels import LOG2_E

LANES = 8

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTS = ir.VectorType(ir.IntType(32), LANES)


class LanesType(types.Type):
    """numba's type of `LANES` numbers."""

    def __init__(self) -> None:
        super().__init__(name=f"lanes({LANES})")


lanes = LanesType()


@register_model(LanesType)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _FLOATS)


def _spread(builder: Any, number: Any) -> Any:
    """The same number in all lanes."""
    one = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(_FLOATS, ir.Undefined), ir.Constant(_INTS, [0] * LANES))


def _arithmetic(operation: Callable[[Any, Any], Any], instruction: str) -> None:
    """Make an operator work on lanes, and on lanes and a float32."""

    def typed(context: Any) -> Any:
        def result(a: Any, b: Any) -> Any:
            known = {a, b} <= {lanes, types.float32}
            return lanes if known and lanes in (a, b) else None

        return result

    def lowered(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sides = zip(signature.args, arguments, strict=True)
        a, b = (value if kind == lanes else _spread(builder, value) for kind, value in sides)
        return getattr(builder, instruction)(a, b)

    type_callable(operation)(typed)
    for kinds in ((lanes, lanes), (lanes, types.float32), (types.float32, lanes)):
        lower_builtin(operation, *kinds)(lowered)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
_arithmetic(operator.truediv, "fdiv")


@intrinsic
def spread(typing_context: Any, number: Any) -> Any:
    """A float32 in all lanes."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _spread(builder, arguments[0])

    return lanes(types.float32), code


@intrinsic
def load_one(typing_context: Any, array: Any, at: Any) -> Any:
    """The number at ``at`` in all lanes, found as by `load`."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return _spread(builder, builder.load(builder.gep(data, [arguments[1]]), align=4))

    return lanes(array, types.intp), code


@njit(inline="always")
def zeros():  # type: ignore[no-untyped-def]
    """0 in all lanes."""
    return spread(f32(0.0))


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), _FLOATS.as_pointer())


@intrinsic
def load(typing_context: Any, array: Any, at: Any) -> Any:
    """The numbers at, at + 1, ... of a contiguous float32 array, counted in memory whatever its shape; unchecked."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_place(context, builder, signature.args[0], *arguments), align=4)

    return lanes(array, types.intp), code


@intrinsic
def store(typing_context: Any, array: Any, at: Any, value: Any) -> Any:
    """Write lanes to where `load` reads them."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *where, numbers = arguments
        builder.store(numbers, _place(context, builder, signature.args[0], *where), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), code


@intrinsic
def copy_transposed(
    typing_context: Any, source: Any, at: Any, step: Any, target: Any, to: Any, target_step: Any
) -> Any:
    """target[to + j target_step + i] = source[at + i step + j] for all i, j < `LANES`, counted as in `load`."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, at, step, target, to, target_step = arguments
        tile = []
        for _ in range(LANES):
            tile.append(builder.load(_place(context, builder, signature.args[0], source, at), align=4))
            at = builder.add(at, step)
        bit = 1
        while bit < LANES:  # exchange this bit of the row's and of the column's number
            for i in (i for i in range(LANES) if not i & bit):
                a, b = tile[i], tile[i + bit]
                first = [k if not k & bit else LANES + k - bit for k in range(LANES)]
                second = [k + bit if not k & bit else LANES + k for k in range(LANES)]
                tile[i] = builder.shuffle_vector(a, b, ir.Constant(_INTS, first))
                tile[i + bit] = builder.shuffle_vector(a, b, ir.Constant(_INTS, second))
            bit *= 2
        for column in tile:
            builder.store(column, _place(context, builder, signature.args[3], target, to), align=4)
            to = builder.add(to, target_step)
        return context.get_dummy_value()

    number = types.intp
    return types.void(source, number, number, target, number, number), code


@intrinsic
def larger(typing_context: Any, x: Any, y: Any) -> Any:
    """The larger of two in each lane; x where either is NaN."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, y = arguments
        return builder.select(builder.fcmp_ordered("<", x, y), y, x)

    return lanes(lanes, lanes), code


def _one(name: str, start: tuple[Any, ...]) -> Callable[[Any, Any, Any, Any], Any]:
    """The code of LLVM's reduction ``name`` of all lanes to one number."""
    kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()] * len(start) + [_FLOATS])

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        reduction = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.{name}.v{LANES}f32")
        return builder.call(reduction, [*start, *arguments], fastmath=("reassoc",))

    return code


@intrinsic
def total_of(typing_context: Any, x: Any) -> Any:
    """The sum of all lanes, in any order."""
    return types.float32(lanes), _one("fadd", (ir.Constant(ir.FloatType(), -0.0),))


@intrinsic
def largest_of(typing_context: Any, x: Any) -> Any:
    """The largest of all lanes, without those that are NaN."""
    return types.float32(lanes), _one("fmax", ())


@intrinsic
def _ceil(typing_context: Any, x: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_FLOATS, [_FLOATS])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.ceil.v{LANES}f32"), arguments)

    return lanes(lanes), code


@intrinsic
def _times_power(typing_context: Any, x: Any, k: Any) -> Any:
    """x 2^k for whole numbers k, added to the exponent's bits."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits, power = builder.bitcast(arguments[0], _INTS), builder.fptosi(arguments[1], _INTS)
        shifted = builder.shl(power, ir.Constant(_INTS, [23] * LANES))
        return builder.bitcast(builder.add(bits, shifted), _FLOATS)

    return lanes(lanes, lanes), code


@njit(inline="always", **FAST)
def exp2_unit(x):  # type: ignore[no-untyped-def]
    """2^x for -1 <= x <= 0; relative error below 7e-7 |x| and a rounding.

    2^x = 1 + x q(x), with the q that has the smallest largest error: it is exact at 0, so that the product of many
    factors near 1 keeps the accuracy of one.
    """
    p = spread(f32(1.0050420e-3))
    p = p * x + f32(9.3470570e-3)
    p = p * x + f32(5.5410328e-2)
    p = p * x + f32(2.4021504e-1)
    p = p * x + f32(6.9314696e-1)
    return p * x + f32(1.0)


@njit(inline="always", **FAST)
def exp2_any(x):  # type: ignore[no-untyped-def]
    """2^x for x <= 127, below -125 as at -125; relative error below 7e-7."""
    x = larger(x, spread(f32(-125.0)))
    k = _ceil(x)
    return _times_power(exp2_unit(x - k), k)


@njit(inline="always", **FAST)
def silu(x):  # type: ignore[no-untyped-def]
    """x / (1 + exp(-x)); relative error below 1e-6 + 6e-8 |x|, for x > -86."""
    return x / (exp2_any(larger(x, spread(f32(-86.0))) * f32(-LOG2_E)) + f32(1.0))


@njit(inline="always", **FAST)
def softplus(x):  # type: ignore[no-untyped-def]
    """log(1 + exp(x)) = max(x, 0) + log1p(e), e = exp(-|x|); relative error below 1e-6 + 6e-8 |x|, for x > -86.

    log1p(e) = 2 artanh(s) with s = e / (2 + e) <= 1/3, and 2 artanh(s) / s a polynomial of s^2.
    """
    e = exp2_any(larger(x, zeros() - x) * f32(-LOG2_E))
    s = e / (e + f32(2.0))
    q = s * s
    p = spread(f32(0.28191571))
    p = p * q + f32(0.27957660)
    p = p * q + f32(0.40025115)
    p = p * q + f32(0.66666310)
    p = p * q + f32(2.0)
    return larger(x, zeros()) + s * p
