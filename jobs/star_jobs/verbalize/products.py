"""The k largest of each row of a product of sparse matrices: the kernel of the neighbours.

A row of the product is the sum of those rows of the right side that the left row names (Gustavson 1978,
doi:10.1145/355791.355796). Its sums are kept in a hash table of that row's own size (Nagasaka et al. 2019,
doi:10.1016/j.parco.2019.102545), not in an array with a place for each column: with many columns such an array leaves
the processor's caches, and a multiplication in a large graph takes several times as long as one in a small graph. What
must come from memory even so, the rows of the right side, is known some entries before, and asked for then.

Compiled by Numba when it is first called, which takes two seconds of a process. Pure.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
import scipy.sparse as sp
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

Matrix = sp.csr_matrix

_ROWS = 1024
"""Rows that a thread takes at a time."""
_SLOTS = 4
"""Places in the table for each product: the fewer, the more often two columns want the same one. Twice as many places
as there are columns are enough, so that rows of very many products need no more memory than that."""
_CANDIDATES = 256
"""Sums looked at before those that are not among the k largest so far are dropped."""
_AHEAD = 8
"""Entries between asking for a row and using it."""
_LINE = 16
"""Numbers of four bytes that memory gives at a time. Two lines of each row are asked for."""
_GOLDEN = 2654435769
"""2**32 over the golden ratio: multiplied by it, numbers that lie together are spread (Knuth, TAOCP 3, 6.4)."""
_LOW = 0xFFFFFFFF

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Rows(NamedTuple):
    """A matrix in compressed rows, as compiled code takes it.

    Its numbers are unsigned: Python counts negative ones from the end, and what can be none is not looked at for that.
    """

    starts: NDArray[np.unsignedinteger]
    columns: NDArray[np.unsignedinteger]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, matrix: Matrix) -> "_Rows":
        """Take a matrix's arrays, without copying them."""
        starts, columns = (array.view(f"u{array.itemsize}") for array in (matrix.indptr, matrix.indices))
        return cls(starts, columns, matrix.data)


class _Table(NamedTuple):
    """Columns and their sums. All is 0 between two rows."""

    columns: NDArray[np.uint32]
    """From 1: 0 is a free place."""
    sums: NDArray[np.float32]
    taken: NDArray[np.uint32]
    """The places that are not free, in the order in which they were taken."""


def best_products(left: Matrix, right: Matrix, barred: Matrix, k: int) -> Matrix:
    """Return the k largest positive entries of each row of left @ right, largest first, equal ones by column.

    Entries where `barred`, of the product's shape, has one are left out. All values are f32, and none is negative.
    """
    rows, width = left.shape[0], right.shape[1]
    operands = _Rows.of(left), _Rows.of(right), _Rows.of(barred)

    def some(first: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
        return _best_of_rows(*operands, width, k, first, min(first + _ROWS, rows))

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        parts = list(pool.map(some, range(0, max(rows, 1), _ROWS)))
    counts, columns, values = (np.concatenate(each) for each in zip(*parts, strict=True))
    starts = np.concatenate([np.zeros(1, np.int32), np.cumsum(counts, dtype=np.int32)])
    return Matrix((values, columns, starts), (rows, width))


def _compiled(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Compile a function when it is first called; it runs without the interpreter's lock."""
    compiled: Callable[_P, _T] = njit(nogil=True)(function)
    return compiled


def _emit_prefetch(_: object, array: Any, place: object) -> Any:
    """Emit LLVM's `prefetch` of one element, to be read and kept in all caches; no place is out of bounds for it.

    https://llvm.org/docs/LangRef.html#llvm-prefetch-intrinsic
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [start.type, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [start.type], kind)
        to_read, in_all_caches, of_data = number(0), number(3), number(1)
        builder.call(prefetch, [builder.gep(start, [arguments[1]]), to_read, in_all_caches, of_data])
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


_prefetch = intrinsic(_emit_prefetch)


@_compiled
def _best_of_rows(
    left: _Rows, right: _Rows, barred: _Rows, width: int, k: int, first: int, last: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Return how many each of some rows has of the k largest, and all their columns and values."""
    counts = np.empty(last - first, np.int32)
    columns, values = np.empty((last - first) * k, np.int32), np.empty((last - first) * k, np.uint32)
    keys, table, end = np.empty(k + _CANDIDATES, np.uint64), _table(0), 0
    for row in range(first, last):
        bits = _bits(left, right, row, width)
        if len(table.columns) < 1 << bits:
            table = _table(1 << bits)
        found = _add_products(left, right, row, table, bits)
        for entry in range(barred.starts[row], barred.starts[row + 1]):
            table.sums[_place(table.columns, barred.columns[entry] + 1, bits)] = 0
        count = _take_best(table, found, keys, k)
        for key in keys[:count]:
            rank = end
            for at in range(count):  # of so few faster than any sorting
                rank += int(keys[at] < key)
            columns[rank] = key & np.uint64(_LOW)
            values[rank] = ~key >> np.uint64(32)
        counts[row - first] = count
        end += count
    return counts, columns[:end], values[:end].view(np.float32)


@_compiled
def _table(size: int) -> _Table:
    return _Table(np.zeros(size, np.uint32), np.zeros(size, np.float32), np.zeros(size, np.uint32))


@_compiled
def _bits(left: _Rows, right: _Rows, row: int, width: int) -> int:
    """Return the logarithm of the places that the table needs for a row."""
    products, last = 0, len(left.columns) - 1
    for entry in range(left.starts[row], left.starts[row + 1]):
        middle = left.columns[entry]
        products += right.starts[middle + 1] - right.starts[middle]
        _prefetch(right.starts, left.columns[min(entry + 2 * _AHEAD, last)])
    bits = 8
    while 1 << bits < min(_SLOTS * products, 2 * width):
        bits += 1
    return bits


@_compiled
def _place(columns: NDArray[np.uint32], column: int, bits: int) -> int:
    """Return where a column stands among the 2**bits first places of a table, or else the free place for it."""
    place = (column * _GOLDEN & _LOW) >> (32 - bits)
    while columns[place] != column and columns[place] != 0:
        place = (place + 1) & ((1 << bits) - 1)
    return place


@_compiled
def _add_products(left: _Rows, right: _Rows, row: int, table: _Table, bits: int) -> int:
    """Add all products of a row to their columns' sums, and return how many columns there are."""
    columns, sums, taken = table
    found, last = 0, len(left.columns) - 1
    for entry in range(left.starts[row], left.starts[row + 1]):
        ahead = right.starts[left.columns[min(entry + _AHEAD, last)]]
        for line in (0, _LINE):
            _prefetch(right.columns, ahead + line)
            _prefetch(right.values, ahead + line)
        middle, weight = left.columns[entry], left.values[entry]
        for other in range(right.starts[middle], right.starts[middle + 1]):
            column = right.columns[other] + 1
            place = _place(columns, column, bits)
            taken[found] = place
            found += int(columns[place] == 0)
            columns[place] = column
            sums[place] += weight * right.values[other]
    return found


@_compiled
def _take_best(table: _Table, found: int, keys: NDArray[np.uint64], k: int) -> int:
    """Empty the table, leave the keys of its k largest sums in front of `keys`, in no order, and return their number.

    A key is one number for a sum and its column: the complement of the sum's bits, above the column. Positive floats
    are in the order of their bits, so the least key is the largest sum, and of equal ones that of the first column.
    """
    bits, half = table.sums.view(np.uint32), np.uint64(32)
    count, limit = 0, np.uint64(_LOW) << half  # what is not less is no positive sum
    for start in range(0, found, _CANDIDATES):
        for at in range(start, min(start + _CANDIDATES, found)):
            place = table.taken[at]
            key = np.uint64(~bits[place]) << half | np.uint64(table.columns[place] - 1)
            keys[count] = key  # without a branch, as none could be foreseen
            count += int(key < limit)
            table.columns[place] = 0
            table.sums[place] = 0
        if count > k:
            limit = _least_first(keys[:count], k)
            count = k
    return count


@_compiled
def _least_first(keys: NDArray[np.uint64], k: int) -> np.uint64:
    """Bring the k least of more than k distinct keys to the front, and return a bound that none less than them reaches.

    Hoare's selection (1961, doi:10.1145/366622.366647), its partition without a branch.
    """
    start, stop = 0, len(keys)
    while True:
        one, two, three = keys[start], keys[(start + stop) >> 1], keys[stop - 1]
        pivot: np.uint64 = max(min(one, two), min(max(one, two), three))
        below = start
        for at in range(start, stop):
            key = keys[at]
            keys[at] = keys[below]
            keys[below] = key
            below += int(key < pivot)
        if below == k:
            return pivot
        if below > k:
            stop = below
        elif below > start:
            start = below
        else:  # the pivot is the least
            for at in range(start, stop):
                if keys[at] == pivot:
                    keys[at], keys[start] = keys[start], pivot
            start += 1
            if start == k:
                return pivot
