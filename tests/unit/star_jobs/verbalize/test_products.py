"""The kernel of the neighbours, against products of dense matrices."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from star_jobs.verbalize.products import best_products


def matrix(rows: int, columns: int, density: float, seed: int) -> sp.csr_matrix:
    """Of small whole numbers, whose sums are exact and often equal."""
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 4, (rows, columns)) * (rng.random((rows, columns)) < density)
    return sp.csr_matrix(values.astype(np.float32))


def expected(left: sp.csr_matrix, right: sp.csr_matrix, barred: sp.csr_matrix, k: int) -> list[list[tuple[int, float]]]:
    products = np.where(barred.toarray() > 0, 0, left.toarray() @ right.toarray())
    best = [sorted((-value, column) for column, value in enumerate(row) if value > 0)[:k] for row in products.tolist()]
    return [[(column, -least) for least, column in row] for row in best]


def rows(product: sp.csr_matrix) -> list[list[tuple[int, float]]]:
    ends = list(zip(product.indptr, product.indptr[1:], strict=False))
    return [list(zip(product.indices[a:b].tolist(), product.data[a:b].tolist(), strict=True)) for a, b in ends]


@settings(deadline=None, max_examples=150)
@given(
    shape=st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 900)),
    densities=st.tuples(*[st.sampled_from([0.0, 0.01, 0.2, 1.0])] * 3),
    k=st.integers(1, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_k_largest_come_first_and_equal_ones_by_column(
    shape: tuple[int, int, int], densities: tuple[float, float, float], k: int, seed: int
) -> None:
    height, depth, width = shape
    left, right = matrix(height, depth, densities[0], seed), matrix(depth, width, densities[1], seed + 1)
    barred = matrix(height, width, densities[2], seed + 2)
    product = best_products(left, right, barred, k)
    assert product.shape == (height, width)
    assert rows(product) == expected(left, right, barred, k)


def test_rows_of_many_tasks_come_in_order() -> None:
    left, right = matrix(5000, 30, 0.1, 1), matrix(30, 200, 0.3, 2)
    barred = sp.csr_matrix((5000, 200), dtype=np.float32)
    assert rows(best_products(left, right, barred, 7)) == expected(left, right, barred, 7)


@pytest.mark.parametrize("columns", [np.arange(60_000), np.arange(60_000)[::-1], np.arange(60_000) * 35_791 % 60_000])
def test_a_row_of_more_sums_than_the_table_began_with(columns: np.ndarray) -> None:
    """The best come first, last, or anywhere, and the table is empty again for the rows that follow."""
    right = sp.csr_matrix(np.stack([columns + 1.0, np.zeros(60_000)]).astype(np.float32))
    right = sp.vstack([right, sp.csr_matrix(([1.0], ([0], [9])), (1, 60_000), np.float32)], "csr")
    left = sp.csr_matrix(np.array([[0, 0, 1], [2, 1, 0], [0, 0, 1], [0, 0, 0]], np.float32))
    found = rows(best_products(left, right, sp.csr_matrix((4, 60_000), dtype=np.float32), 50))
    best = [(int(column), 2.0 * (columns[column] + 1)) for column in np.argsort(-columns)[:50]]
    assert found == [[(9, 1.0)], best, [(9, 1.0)], []]


def test_how_rows_are_dealt_out_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = matrix(3000, 300, 0.05, 3), matrix(300, 3000, 0.05, 4)
    barred = sp.identity(3000, np.float32, "csr")
    one, other = (best_products(left / np.float32(7), right, barred, 50) for _ in range(2))
    monkeypatch.setattr("star_jobs.verbalize.products._ROWS", 3)
    assert rows(one) == rows(other) == rows(best_products(left / np.float32(7), right, barred, 50))
