"""What a token says of itself: read without a fault whatever it is, and believed in nothing but its refusal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_operator.core.claims import read_claims
from tests.support.tokens import encoded, service_account_token


def test_a_token_says_whose_it_is() -> None:
    claims = read_claims(service_account_token("team", exp=100, nbf=10))
    assert claims is not None
    assert (claims.namespace, claims.expires) == ("team", 100)
    assert claims.wrong("star-operator", claims.issuer, 50) is None
    assert claims.wrong("star-operator", None, 159) is None, "clocks may differ by a minute"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("audience", "issuer", "now", "why"),
    [
        ("other", None, 50, "the token is not for the audience other"),
        ("star-operator", "https://elsewhere", 50, "the token is of another cluster"),
        ("star-operator", None, 161, "the token has expired"),
        ("star-operator", None, -51, "the token is not valid yet"),
    ],
)
def test_why_nobody_would_take_it(audience: str, issuer: str | None, now: float, why: str) -> None:
    claims = read_claims(service_account_token("team", exp=100, nbf=10))
    assert claims is not None
    assert claims.wrong(audience, issuer, now) == why


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b",
        "a.b.c.d",
        "..",
        "\u00ff.\u00ff.\u00ff",
        "x" * 9000,
        service_account_token() + "x" * 9000,
        service_account_token(sub=3),
        service_account_token(sub="system:serviceaccount:team"),
        service_account_token(sub="system:serviceaccount::x"),
        service_account_token(aud=None),
        service_account_token(aud=[1]),
        service_account_token(iss=None),
        service_account_token(exp=None),
        service_account_token(exp=True),
        service_account_token(exp=10**400),
        service_account_token(exp=float("nan")),
        service_account_token(nbf="1"),
        ".".join([encoded({"alg": "none"}), encoded({}), "x"]),
        ".".join([encoded([]), encoded([]), "x"]),
        "W1tb" * 2000 + "." + "W1tb" * 10 + ".x",
    ],
)
def test_what_is_no_token_says_nothing(token: str) -> None:
    assert read_claims(token) is None


@given(
    st.text(max_size=60)
    | st.lists(st.binary(max_size=40).map(lambda raw: raw.hex()), min_size=3, max_size=3).map(".".join)
)
def test_nothing_that_is_sent_is_an_error(token: str) -> None:
    assert read_claims(token) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["aud", "exp", "nbf", "iss", "sub", "x"]), JSON))
def test_no_claim_is_an_error(claims: dict[str, object]) -> None:
    found = read_claims(service_account_token(**claims))
    if found is not None:
        found.wrong("star-operator", None, 0.0)
