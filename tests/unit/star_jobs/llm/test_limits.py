"""Rate limits, Retry-After, token budget and prices, as calls meet them."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import openai
import pytest

from star_contracts.errors import Reason
from star_contracts.limits import RateLimits, TokenPrices
from star_contracts.settings import Sampling
from star_jobs.errors import TerminalFailure
from star_jobs.llm.budget import TokenBudget
from star_jobs.llm.client import LLMClient
from star_jobs.llm.failures import retry_after
from star_jobs.llm.messages import ChatMessage
from tests.support.fakellm import Answer, fake_llm

HELLO: list[ChatMessage] = [{"role": "user", "content": "hello there"}]
SAMPLING = Sampling(max_tokens=8)


def refusal(after: str) -> openai.APIStatusError:
    request = httpx2.Request("POST", "http://host/v1")
    headers = {"retry-after": after} if after else {}
    return openai.RateLimitError("busy", response=httpx2.Response(429, headers=headers, request=request), body=None)


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after(refusal("7")) == 7
    assert retry_after(refusal("0.5")) == 0.5
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 85 < (retry_after(refusal(later)) or 0) <= 90
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=90), usegmt=True)
    assert retry_after(refusal(past)) == 0


@pytest.mark.parametrize("value", ["", "soon", "12 minutes"])
def test_retry_after_that_says_nothing(value: str) -> None:
    assert retry_after(refusal(value)) is None


def test_retry_after_is_bounded() -> None:
    assert retry_after(refusal("1e9")) == 3600


async def test_all_calls_rest_as_long_as_the_endpoint_asks() -> None:
    times: list[float] = []

    def script(request: object) -> Answer:
        times.append(time.monotonic())
        return Answer("busy", status=429, headers={"retry-after": "0.4"}) if len(times) == 1 else Answer("done")

    with fake_llm(script) as llm:
        async with LLMClient(llm.endpoint(concurrency=1)) as client:
            replies = await asyncio.gather(*(client.chat(HELLO, sampling=SAMPLING) for _ in range(3)))
    assert [reply.text for reply in replies] == ["done"] * 3
    assert min(times[1:]) - times[0] >= 0.39, "nobody asks while the endpoint rests"


async def test_requests_keep_to_their_limit() -> None:
    with fake_llm(lambda request: "hi") as llm:
        limits = RateLimits(requests_per_minute=1200)
        async with LLMClient(llm.endpoint(rate_limits=limits)) as client:
            started = time.monotonic()
            await asyncio.gather(*(client.chat(HELLO, sampling=SAMPLING) for _ in range(9)))
    assert time.monotonic() - started >= 8 * 0.05


async def test_tokens_keep_to_their_limit() -> None:
    """Each call is expected to take its answer's budget, and is charged what it took: 3 tokens here."""
    with fake_llm(lambda request: "hi") as llm:
        limits = RateLimits(tokens_per_minute=600)
        async with LLMClient(llm.endpoint(rate_limits=limits)) as client:
            started = time.monotonic()
            for _ in range(3):
                await client.chat(HELLO, sampling=SAMPLING)
    assert 2 * 0.3 <= time.monotonic() - started < 60


async def test_a_spent_budget_ends_the_run_in_words() -> None:
    budget = TokenBudget.share(12, pods=2)
    with fake_llm(lambda request: "hi") as llm:
        async with LLMClient(llm.endpoint(), budget=budget) as client:
            for _ in range(2):
                await client.chat(HELLO, sampling=SAMPLING)
            with pytest.raises(TerminalFailure, match=r"6 of 6 tokens.*tokenBudget 12.*larger tokenBudget") as failure:
                await client.chat(HELLO, sampling=SAMPLING)
    assert failure.value.reason is Reason.TOKEN_BUDGET_SPENT
    assert len(llm.requests) == 2


def test_what_earlier_pods_spent_counts() -> None:
    TokenBudget.share(None, pods=2, spent=10**9).check()
    TokenBudget.share(100, pods=1, spent=99).check()
    with pytest.raises(TerminalFailure):
        TokenBudget.share(100, pods=1, spent=100).check()


async def test_the_account_in_money() -> None:
    prices = TokenPrices(prompt_per_million=1_000_000, completion_per_million=500_000)
    with fake_llm(lambda request: "hi there you") as llm:
        async with LLMClient(llm.endpoint(prices=prices)) as client:
            await client.chat(HELLO, sampling=SAMPLING)
            assert client.cost == 2 * 1 + 3 * 0.5
        async with LLMClient(llm.endpoint()) as free:
            await free.chat(HELLO, sampling=SAMPLING)
            assert free.cost == 0


@pytest.mark.bad_input
@pytest.mark.parametrize("text", ["<html>welcome</html>", "[]", '{"choices": "none"}', '{"choices": [{}]}', "{}"])
async def test_an_answer_that_is_no_completion(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    async def post(self: object, path: str, **arguments: object) -> httpx2.Response:
        return httpx2.Response(200, content=text.encode())

    monkeypatch.setattr(openai.AsyncOpenAI, "post", post)
    with fake_llm() as llm:
        async with LLMClient(llm.endpoint()) as client:
            with pytest.raises(TerminalFailure, match=r"no chat completion.*ends in /v1") as failure:
                await client.chat(HELLO, sampling=SAMPLING)
    assert failure.value.reason is Reason.LLM_OUTPUT_INVALID
