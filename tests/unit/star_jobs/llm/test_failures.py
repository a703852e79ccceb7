"""What an endpoint's refusals mean: its model's fault, its account's, or one request's."""

import asyncio
import threading
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_contracts.errors import Reason
from star_contracts.job import LLMEndpoint
from star_contracts.settings import Sampling
from star_jobs.errors import JobFailure, TerminalFailure
from star_jobs.llm.client import LLMClient
from star_jobs.llm.failures import RequestRefused, as_failure, is_transient
from star_jobs.llm.messages import ChatMessage
from tests.support.fakellm import Answer, Request, fake_llm

ENDPOINT = LLMEndpoint(base_url="http://teacher.example/v1", model="teacher")
MODEL, KEY, REQUEST = Reason.INVALID_MODEL, Reason.LLM_ACCESS_DENIED, Reason.INVALID_JOB_SPEC

# Status, what the server says, what it means, and what the sentence advises.
SAID: list[tuple[int, Any, Reason, str]] = [
    (
        400,
        "As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template if "
        "the tokenizer does not define one.",
        MODEL,
        "chat (instruct) model",
    ),
    (400, "Cannot use chat template functions because tokenizer.chat_template is not set", MODEL, "chat template"),
    (400, "Conversation roles must alternate user/assistant/user/assistant/...", MODEL, "renders our prompts"),
    (400, "System role not supported", MODEL, "renders our prompts"),
    (400, "'bos_tokens' is undefined", MODEL, "renders our prompts"),
    (
        400,
        "This model's maximum context length is 2048 tokens. However, you requested 3000 tokens in the messages. "
        "Please reduce the length of the messages.",
        REQUEST,
        "historyLength",
    ),
    (400, "max_tokens is too large: 4000", REQUEST, "sampling.maxTokens"),
    (413, "Request Entity Too Large", REQUEST, "historyLength"),
    (400, "temperature must be non-negative, got -1.0", REQUEST, "the llm's sampling"),
    (422, [{"loc": ["body", "n"], "msg": "Input should be greater"}], REQUEST, "the llm's sampling"),
    (404, "The model `teacher` does not exist.", MODEL, "llm.endpoint.model"),
    (400, "Model Not Exist", MODEL, "llm.endpoint.model"),
    (400, {"message": "no", "code": "model_not_found"}, MODEL, "llm.endpoint.model"),
    (401, "Unauthorized", KEY, "name a Secret"),
    (403, "Forbidden", KEY, "name a Secret"),
    (400, "API key not valid. Please pass a valid API key.", KEY, "name a Secret"),
    (402, "Insufficient Balance", KEY, "top up the account"),
    (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}, KEY, "top up the account"),
]


def refusal(status: int, said: Any) -> openai.APIStatusError:
    body = said if isinstance(said, dict) else {"message": said}
    response = httpx2.Response(status, request=httpx2.Request("POST", f"{ENDPOINT.base_url}/chat/completions"))
    return openai.APIStatusError(f"Error code: {status}", response=response, body=body)


@pytest.mark.bad_input
@pytest.mark.parametrize(("status", "said", "reason", "advice"), SAID)
def test_what_a_refusal_means(status: int, said: Any, reason: Reason, advice: str) -> None:
    error = refusal(status, said)
    assert not is_transient(error)
    failure = as_failure(error, ENDPOINT)
    assert (failure.reason, advice in failure.message) == (reason, True), failure.message
    assert isinstance(failure, RequestRefused) is (reason is REQUEST)
    assert ENDPOINT.base_url in failure.message


@pytest.mark.bad_input
@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert is_transient(refusal(status, "busy; the model's chat template is loading"))


@pytest.mark.bad_input
@pytest.mark.case("no-chat-template")
async def test_a_server_without_a_chat_template_ends_the_work_and_blames_no_prompt() -> None:
    """As vLLM answers it."""
    hello: list[ChatMessage] = [{"role": "user", "content": "hello"}]
    with fake_llm(lambda _: Answer(SAID[0][1], status=400)) as llm:
        async with LLMClient(llm.endpoint()) as client:
            with pytest.raises(TerminalFailure, match="chat template") as raised:
                await client.chat(hello, sampling=Sampling())
    assert raised.value.reason is Reason.INVALID_MODEL
    assert not isinstance(raised.value, RequestRefused)


@pytest.mark.fuzz
@given(st.integers(300, 599), st.text() | st.none() | st.lists(st.text()) | st.dictionaries(st.text(), st.text()))
def test_any_refusal_has_a_name(status: int, said: Any) -> None:
    error = refusal(status, said)
    assert isinstance(as_failure(error, ENDPOINT), JobFailure)
    assert isinstance(is_transient(error), bool)


@pytest.mark.bad_input
async def test_one_request_that_breaks_the_server_ends_for_itself_alone() -> None:
    poison: list[ChatMessage] = [{"role": "user", "content": "poison"}]
    hello: list[ChatMessage] = [{"role": "user", "content": "hello"}]
    other = threading.Event()

    def script(request: Request) -> Answer:
        if request["messages"][-1]["content"] == "hello":
            other.set()
            return Answer("hi")
        assert other.wait(30), "the other request never came"
        return Answer("assertion failed", status=500, headers={"retry-after": "0"})

    with fake_llm(script) as llm:
        async with LLMClient(llm.endpoint(startup_seconds=60, timeout_seconds=60)) as client:
            broken = asyncio.create_task(client.chat(poison, sampling=Sampling()))
            async with asyncio.timeout(30):
                while not llm.requests:  # noqa: ASYNC110 - another thread's list cannot be awaited
                    await asyncio.sleep(0)
            assert (await client.chat(hello, sampling=Sampling())).text == "hi"
            with pytest.raises(RequestRefused, match=r"failed 9 times at one request, and answered others.*assertion"):
                await broken
