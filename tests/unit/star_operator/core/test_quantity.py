"""Quantities: every form that a Deployment takes, with quotes and without."""

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from star_operator.api.common import Resources
from star_operator.core.quantity import QUANTITY_PATTERN, amount
from star_operator.core.settings import Pool

UNITS = "n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e3|E3|e-3|E+3"


@given(st.from_regex(rf"[+]?([0-9]{{1,6}}(\.[0-9]{{0,3}})?|\.[0-9]{{1,3}})({UNITS})?", fullmatch=True))
def test_quantities_are_taken(text: str) -> None:
    assert Resources(cpu=text).cpu == text
    assert amount(text) >= 0


@pytest.mark.bad_input
@pytest.mark.parametrize("text", ["", "16 Gi", "16GB", "-1", "Gi", ".", "1e", "1Kib", "0x10", "1_000", "NaN", "inf"])
def test_what_is_not_a_quantity_is_not(text: str) -> None:
    assert not re.fullmatch(QUANTITY_PATTERN, text)
    with pytest.raises(ValueError, match="must be a quantity"):
        amount(text)


@pytest.mark.case("unquoted-quantity")
@pytest.mark.parametrize(
    ("given", "text"),
    [(2, "2"), (0.5, "0.5"), (4294967296, "4294967296"), (4e9, "4000000000"), (1e-3, "0.001"), (10.0, "10"), (0, "0")],
)
def test_numbers_without_quotes_are_quantities(given: float, text: str) -> None:
    assert Resources.model_validate({"cpu": given}).cpu == text
    assert Pool.model_validate({"shmSize": given}).shm_size == text


@pytest.mark.bad_input
@pytest.mark.parametrize("given", [True, False, -1, -0.5, float("nan"), float("inf"), [], {}])
def test_other_values_are_not(given: Any) -> None:
    with pytest.raises(ValidationError):
        Resources.model_validate({"memory": given})


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", "0.5"), ("2", "2"), ("1.5Ki", "1536"), ("1k", "1000"), ("1E", "1e18"), ("1E3", "1000"), (".5", "0.5")],
)
def test_amounts(text: str, value: str) -> None:
    assert amount(text) == Decimal(value)
