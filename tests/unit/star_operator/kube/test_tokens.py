"""Reviews of tokens: few, remembered for as long as they can be true, and never more than some at once."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from star_operator.core.errors import Retryable
from star_operator.kube.tokens import AT_ONCE, INVALID_SECONDS, MAX_INVALID, MAX_WAITING, VALID_SECONDS, TokenReviewer
from tests.support.fakecluster import FakeCluster
from tests.support.tokens import service_account_token


class Reviews(FakeCluster):
    """Says yes to tokens of `team`; waits where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.now, self.most = 0, 0, 0
        self.answers: asyncio.Event | None = None

    async def create(self, obj: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        self.count, self.now = self.count + 1, self.now + 1
        self.most = max(self.most, self.now)
        if self.answers is not None:
            await self.answers.wait()
        self.now -= 1
        good = "forged" not in obj["spec"]["token"]
        return {"status": {"authenticated": good, "user": {"username": "system:serviceaccount:team:default"}}}


class World:
    def __init__(self, own_token: Path = Path("/nowhere")) -> None:
        self.time = 100.0
        self.cluster = Reviews()
        self.reviewer = TokenReviewer(self.cluster, clock=lambda: self.time, own_token=own_token)


async def test_answers_are_remembered_for_as_long_as_they_can_be_true() -> None:
    world = World()
    good, short, bad = service_account_token(), service_account_token(exp=150), "forged"
    for _ in range(2):
        assert await world.reviewer.namespace_of(good) == "team"
        assert await world.reviewer.namespace_of(short) == "team"
        assert await world.reviewer.namespace_of(bad) is None
    assert world.cluster.count == 3
    world.time += max(50, INVALID_SECONDS)
    for token in (good, short, bad):
        await world.reviewer.namespace_of(token)
    assert world.cluster.count == 5, "one has expired, and what was wrong is looked at once more"
    world.time += VALID_SECONDS
    await world.reviewer.namespace_of(good)
    assert world.cluster.count == 6


async def test_wrong_tokens_push_out_no_right_one() -> None:
    world = World()
    good = service_account_token()
    await world.reviewer.namespace_of(good)
    for n in range(MAX_INVALID + 10):
        await world.reviewer.namespace_of(f"forged-{n}")
    assert len(world.reviewer._invalid) == MAX_INVALID
    assert world.reviewer.known(good) is not None


async def test_few_reviews_are_made_at_once_and_few_wait() -> None:
    world = World()
    world.cluster.answers = asyncio.Event()
    asked = [asyncio.ensure_future(world.reviewer.namespace_of(f"forged-{n}")) for n in range(MAX_WAITING)]
    await asyncio.wait(asked, timeout=0.05)
    with pytest.raises(Retryable, match="TooManyReviews"):
        await world.reviewer.namespace_of("forged")
    world.cluster.answers.set()
    assert await asyncio.gather(*asked) == [None] * MAX_WAITING
    assert world.cluster.most == AT_ONCE
    assert await world.reviewer.namespace_of("forged") is None


async def test_one_token_asked_for_at_once_is_reviewed_few_times() -> None:
    world = World()
    token = service_account_token()
    assert set(await asyncio.gather(*(world.reviewer.namespace_of(token) for _ in range(60)))) == {"team"}
    assert world.cluster.count <= AT_ONCE


def test_tokens_of_another_issuer_than_the_operators_own_are_told_apart(tmp_path: Path) -> None:
    own = tmp_path / "token"
    own.write_text(service_account_token("star-system") + "\n")
    world = World(own)
    assert not isinstance(world.reviewer.claims(service_account_token()), str)
    assert world.reviewer.claims(service_account_token(iss="https://elsewhere")) == "the token is of another cluster"
    own.write_bytes(b"\xff")
    assert not isinstance(world.reviewer.claims(service_account_token(iss="https://elsewhere")), str)
