"""The client against a scripted server: what it sends, what it retries, and what its failures say."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_contracts import addresses
from star_contracts.errors import Reason
from star_contracts.job import LLMEndpoint
from star_contracts.settings import Sampling
from star_jobs.errors import RetryableFailure, TerminalFailure
from star_jobs.llm import failures
from star_jobs.llm.client import LLMClient, read_completion
from star_jobs.llm.connections import is_in_cluster
from star_jobs.llm.failures import RequestRefused
from star_jobs.llm.messages import ChatMessage
from tests.support.fakellm import Answer, FakeLLM, Request, fake_llm
from tests.support.rawbackend import raw_backend
from tests.support.s3 import free_port, taken_port

HELLO: list[ChatMessage] = [{"role": "user", "content": "hello there"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 9}}, "required": ["a"]}
SAMPLING = Sampling(max_tokens=8, seed=3)


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_FIRST_DELAY", 0.01)


@pytest.fixture
def llm() -> Iterator[FakeLLM]:
    with fake_llm(lambda request: "hi") as server:
        yield server


async def test_sends_sampling_and_counts_tokens(llm: FakeLLM) -> None:
    async with LLMClient(llm.endpoint()) as client:
        reply = await client.chat(HELLO, sampling=SAMPLING, stop=("</x>",))
        await client.chat(HELLO, sampling=SAMPLING)
    assert reply.text == "hi"
    assert reply.finish_reason == "stop"
    assert (client.usage.calls, client.usage.prompt_tokens, client.usage.completion_tokens) == (2, 4, 2)
    request = llm.requests[0]
    assert request["messages"] == HELLO
    assert (request["temperature"], request["top_p"], request["max_tokens"], request["seed"]) == (0.7, 0.95, 8, 3)
    assert request["stop"] == ["</x>"]
    assert "response_format" not in request


async def test_says_how_long_a_call_waited_for_others(llm: FakeLLM) -> None:
    async with LLMClient(llm.endpoint(concurrency=1)) as client:
        started = time.monotonic()
        replies = await asyncio.gather(*(client.chat(HELLO, sampling=SAMPLING) for _ in range(3)))
        took = time.monotonic() - started
    first, second, third = (reply.waited for reply in replies)
    assert first < second < third < took


async def test_continues_the_final_message_in_vllms_words(llm: FakeLLM) -> None:
    async with LLMClient(llm.endpoint()) as client:
        await client.chat(
            [*HELLO, {"role": "assistant", "content": "<plan>"}],
            sampling=SAMPLING,
            continue_final=True,
            regex="[a-z]+",
            template_arguments={"enable_thinking": False},
        )
    request = llm.requests[0]
    assert request["continue_final_message"] is True
    assert request["add_generation_prompt"] is False
    assert request["structured_outputs"] == {"regex": "[a-z]+"}
    assert request["chat_template_kwargs"] == {"enable_thinking": False}


async def test_returns_every_choice(llm: FakeLLM) -> None:
    async with LLMClient(llm.endpoint()) as client:
        reply = await client.chat(HELLO, sampling=SAMPLING, n=3)
    assert reply.texts == ("hi", "hi", "hi")


async def test_vllm_gets_the_whole_schema() -> None:
    with fake_llm() as llm:
        async with LLMClient(llm.endpoint()) as client:
            await client.wait_ready()
            await client.chat(HELLO, sampling=SAMPLING, schema=SCHEMA)
    assert llm.requests[0]["response_format"]["json_schema"]["schema"] == SCHEMA


async def test_another_provider_gets_no_string_lengths() -> None:
    with fake_llm(owned_by="somebody") as llm:
        async with LLMClient(llm.endpoint()) as client:
            await client.wait_ready()
            await client.chat(HELLO, sampling=SAMPLING, schema=SCHEMA)
    sent = llm.requests[0]["response_format"]["json_schema"]["schema"]
    assert sent["properties"] == {"a": {"type": "string"}}


async def test_a_provider_without_schemas_is_told_in_words() -> None:
    def script(request: Request) -> Answer:
        refuses = request.get("response_format", {}).get("type") == "json_schema"
        return Answer("This response_format type is unavailable now", status=400) if refuses else Answer('{"a": "b"}')

    with fake_llm(script, owned_by="somebody") as llm:
        async with LLMClient(llm.endpoint()) as client:
            for _ in range(2):
                assert (await client.chat(HELLO, sampling=SAMPLING, schema=SCHEMA)).text == '{"a": "b"}'
    assert [request["response_format"]["type"] for request in llm.requests] == [
        "json_schema",
        "json_object",
        "json_object",
    ]
    assert '"maxLength": 9' in llm.requests[1]["messages"][-1]["content"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 408])
async def test_tries_again_while_the_server_is_busy(status: int) -> None:
    answers = [
        Answer("busy", status=status),
        Answer("busy", status=status, headers={"retry-after": "0"}),
        Answer("done"),
    ]
    with fake_llm(lambda request: answers.pop(0)) as llm:
        async with LLMClient(llm.endpoint()) as client:
            reply = await client.chat(HELLO, sampling=SAMPLING)
    assert reply.text == "done"
    assert client.retries == 2


async def test_tries_again_after_a_timeout() -> None:
    never = threading.Event()
    slow = iter((0.5, 0.0))

    def script(request: Request) -> str:
        never.wait(next(slow))
        return "late"

    with fake_llm(script) as llm:
        async with LLMClient(llm.endpoint(timeout_seconds=0.2)) as client:
            assert (await client.chat(HELLO, sampling=SAMPLING)).text == "late"
    assert client.retries == 1


@pytest.mark.bad_input
async def test_a_request_that_always_breaks_the_server_is_given_up() -> None:
    with fake_llm(lambda request: Answer("engine error", status=500)) as llm:
        async with LLMClient(llm.endpoint(startup_seconds=60)) as client:
            with pytest.raises(RetryableFailure, match="HTTP 500") as failure:
                await client.chat(HELLO, sampling=SAMPLING)
    assert failure.value.reason is Reason.LLM_UNREACHABLE
    assert len(llm.requests) == 9


@pytest.mark.bad_input
@pytest.mark.parametrize("call", ["wait_ready", "chat"])
async def test_endpoint_down_is_retryable_and_says_what_to_check(call: str) -> None:
    endpoint = LLMEndpoint(base_url=f"http://127.0.0.1:{free_port()}/v1", model="m", startup_seconds=0.5)
    async with LLMClient(endpoint) as client:
        with pytest.raises(RetryableFailure, match="check that the model server runs") as failure:
            await (client.wait_ready() if call == "wait_ready" else client.chat(HELLO, sampling=SAMPLING))
    assert failure.value.reason is Reason.LLM_UNREACHABLE
    assert endpoint.base_url in failure.value.message


async def test_waits_for_an_endpoint_that_is_still_starting() -> None:
    with fake_llm(lambda request: "hi") as llm:
        port = llm.port
    endpoint = llm.endpoint(startup_seconds=10)
    async with LLMClient(endpoint) as client:
        waiting = asyncio.create_task(client.wait_ready())
        await asyncio.sleep(0)
        with fake_llm(lambda request: "hi", port=port):
            await waiting


def is_ready(port: int) -> bool:
    """What a kubelet's tcpSocket probe of a pod finds."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_a_pod_is_ready_from_its_first_need_of_the_model_to_its_end() -> None:
    with fake_llm(lambda request: "hi") as llm:
        server = llm.port
    endpoint = llm.endpoint(startup_seconds=10, ask_port=free_port())
    assert endpoint.ask_port is not None
    async with LLMClient(endpoint) as client:
        assert not is_ready(endpoint.ask_port), "a client is no need"
        waiting = asyncio.gather(*(client.wait_ready() for _ in range(3)))
        async with asyncio.timeout(10):
            while not is_ready(endpoint.ask_port):  # noqa: ASYNC110 - a port cannot be awaited
                await asyncio.sleep(0)
        assert not waiting.done(), "nobody has started the model yet"
        with fake_llm(lambda request: "hi", port=server):
            await waiting
            await client.chat(HELLO, sampling=SAMPLING)
        await asyncio.sleep(0)
        assert is_ready(endpoint.ask_port), "the operator may look late"
    assert not is_ready(endpoint.ask_port)


async def test_the_clients_of_a_pod_ask_together_and_until_the_last_one_ends(llm: FakeLLM) -> None:
    endpoint = llm.endpoint(ask_port=free_port())
    assert endpoint.ask_port is not None
    async with LLMClient(endpoint) as one:
        await one.wait_ready()
        async with LLMClient(endpoint) as other:
            await other.wait_ready()
        assert is_ready(endpoint.ask_port)


@pytest.mark.bad_input
async def test_a_port_that_is_taken_fails_at_once_as_nobody_would_start_the_model(llm: FakeLLM) -> None:
    with taken_port() as port:
        async with LLMClient(llm.endpoint(ask_port=port)) as client:
            for _ in range(2):
                with pytest.raises(TerminalFailure, match=f"cannot listen on port {port} to ask for the model"):
                    await client.wait_ready()


@pytest.mark.bad_input
@pytest.mark.parametrize("call", ["wait_ready", "chat"])
async def test_a_refused_key_names_the_secret_and_not_the_key(tmp_path: Path, call: str) -> None:
    key = tmp_path / "apiKey"
    key.write_text("sk-wrong\n")
    with fake_llm(api_key="sk-right") as llm:
        async with LLMClient(llm.endpoint(api_key_file=str(key))) as client:
            with pytest.raises(TerminalFailure, match=r"HTTP 401.*check the Secret") as failure:
                await (client.wait_ready() if call == "wait_ready" else client.chat(HELLO, sampling=SAMPLING))
    assert failure.value.reason is Reason.LLM_ACCESS_DENIED
    assert str(key) in failure.value.message
    assert "sk-" not in failure.value.message


async def test_sends_the_key_of_the_file(tmp_path: Path) -> None:
    key = tmp_path / "apiKey"
    key.write_text("sk-right\n")
    with fake_llm(lambda request: "hi", api_key="sk-right") as llm:
        async with LLMClient(llm.endpoint(api_key_file=str(key))) as client:
            await client.wait_ready()
            assert (await client.chat(HELLO, sampling=SAMPLING)).text == "hi"


@pytest.mark.bad_input
@pytest.mark.parametrize("content", [None, " \n"])
def test_a_missing_or_empty_key_file(tmp_path: Path, content: str | None) -> None:
    key = tmp_path / "apiKey"
    if content is not None:
        key.write_text(content)
    with pytest.raises(TerminalFailure, match="check the Secret") as failure:
        LLMClient(LLMEndpoint(base_url="http://127.0.0.1:1/v1", model="m", api_key_file=str(key)))
    assert failure.value.reason is Reason.LLM_ACCESS_DENIED


@pytest.mark.bad_input
async def test_a_model_that_is_not_served(llm: FakeLLM) -> None:
    async with LLMClient(llm.endpoint(model="other")) as client:
        with pytest.raises(TerminalFailure, match="serves fake, not 'other'") as failure:
            await client.wait_ready()
    assert failure.value.reason is Reason.INVALID_MODEL


@pytest.mark.bad_input
async def test_a_prompt_that_is_too_long_is_refused_for_itself_alone() -> None:
    with fake_llm(lambda request: Answer("maximum context length is 2048 tokens", status=400)) as llm:
        async with LLMClient(llm.endpoint()) as client:
            with pytest.raises(RequestRefused, match=r"2048 tokens.*historyLength"):
                await client.chat(HELLO, sampling=SAMPLING)
    assert len(llm.requests) == 1


async def test_no_more_calls_in_flight_than_asked_for() -> None:
    with fake_llm(lambda request: "hi", latency_seconds=0.03) as llm:
        async with LLMClient(llm.endpoint(concurrency=4)) as client:
            await asyncio.gather(*(client.chat(HELLO, sampling=SAMPLING) for _ in range(20)))
    assert llm.most_in_flight == 4


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfsecret\r\n", b"\n secret \n\n", b"secret"])
async def test_a_key_file_of_any_editor_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with fake_llm(lambda request: "hi") as server:
        server.api_key = "secret"
        async with LLMClient(server.endpoint(api_key_file=str(tmp_path / "key"))) as client:
            assert (await client.chat(HELLO, sampling=SAMPLING)).text == "hi"


@pytest.mark.bad_input
@pytest.mark.parametrize("content", ["two\nlines", "a b", "schl\u00fcssel", "\ufeff", "x\x00y"])
def test_a_key_that_no_header_can_carry_is_refused_by_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content, encoding="utf-8")
    with pytest.raises(TerminalFailure, match="key cannot be used") as caught:
        LLMClient(LLMEndpoint(base_url="http://x/v1", model="m", api_key_file=str(tmp_path / "key")))
    assert caught.value.reason is Reason.LLM_ACCESS_DENIED
    assert "schl" not in caught.value.message


@pytest.mark.parametrize(
    "listed", [b"<html></html>", b"[]", b"3", b'{"data": null}', b'{"data": [{}]}', b'{"data": "x"}', b"[" * 100_000]
)
async def test_an_endpoint_that_lists_no_models_is_asked_all_the_same(listed: bytes) -> None:
    with raw_backend() as raw:
        raw.listed = listed
        async with LLMClient(LLMEndpoint(base_url=raw.base_url, model="student")) as client:
            await client.wait_ready()
            assert (await client.chat(HELLO, sampling=SAMPLING)).text == "ok"


async def test_a_kept_connection_that_was_closed_meanwhile_costs_no_retry() -> None:
    with raw_backend() as raw:
        async with LLMClient(LLMEndpoint(base_url=raw.base_url, model="student", startup_seconds=0.1)) as client:
            await client.chat(HELLO, sampling=SAMPLING)
            raw.closes_used = True
            for _ in range(3):
                await client.chat(HELLO, sampling=SAMPLING)
            assert raw.dropped == 3
            assert client.retries == 0


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("http://star-llm-1.team.svc.cluster.local:8000/v1", True),
        ("http://vllm.team.svc:8000/v1", True),
        ("http://vllm:8000/v1", True),
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("https://api.deepseek.com/v1", False),
        ("https://svc.example.com/v1", False),
        ("http://10.1.2.3:8000/v1", False),
    ],
)
def test_which_endpoints_are_inside_the_cluster(url: str, inside: bool) -> None:
    assert is_in_cluster(url) is inside


async def test_an_endpoint_outside_is_asked_through_the_proxy_unless_it_is_excepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with raw_backend() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "excepted.invalid")
        async with LLMClient(LLMEndpoint(base_url="http://models.invalid/v1", model="student")) as client:
            assert (await client.chat(HELLO, sampling=SAMPLING)).text == "ok"
        excepted = LLMEndpoint(base_url="http://excepted.invalid/v1", model="student", startup_seconds=0.1)
        async with LLMClient(excepted) as client:
            with pytest.raises(RetryableFailure):
                await client.chat(HELLO, sampling=SAMPLING)
        assert len(proxy.bodies) == 1


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.integers(0, 0x10FFFF).map(chr), max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["choices", "message", "content", "usage", "prompt_tokens", "x"]), inner)
    ),
    max_leaves=8,
)
MESSAGE = st.fixed_dictionaries({}, optional={"content": ANYTHING})
CHOICE = st.fixed_dictionaries({}, optional={"message": MESSAGE | ANYTHING, "finish_reason": ANYTHING})
COUNTS = st.fixed_dictionaries({}, optional={"prompt_tokens": ANYTHING, "completion_tokens": ANYTHING})
ANSWER = st.fixed_dictionaries({}, optional={"choices": st.lists(CHOICE, max_size=2), "usage": COUNTS | ANYTHING})


@pytest.mark.fuzz
@given((ANSWER | ANYTHING).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40))
def test_an_answer_is_a_reply_that_can_be_written_or_no_chat_completion(content: bytes) -> None:
    try:
        reply = read_completion(content, LLMEndpoint(base_url="http://x/v1", model="m"), waited=0.0)
    except TerminalFailure as failure:
        reason, said = failure.reason, failure.message
        said.encode()
        if reason is not Reason.LLM_OUTPUT_INVALID:
            raise
    else:
        "".join(reply.texts).encode()


@pytest.mark.bad_input
async def test_a_name_that_stands_for_a_nodes_own_address_is_sent_nothing(
    llm: FakeLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "_METADATA_NETS", (ip_network("127.0.0.0/8"),))
    async with LLMClient(llm.endpoint(base_url=f"http://localhost:{llm.port}/v1")) as client:
        with pytest.raises(TerminalFailure, match=r"it is at 127\.0\.0\.1.*nothing was sent") as caught:
            await client.wait_ready()
        with pytest.raises(TerminalFailure, match="nothing was sent"):
            await client.chat(HELLO, sampling=SAMPLING)
    assert caught.value.reason == Reason.LLM_ACCESS_DENIED
    assert llm.requests == []


@pytest.mark.bad_input
@pytest.mark.parametrize("status", [302, 303, 307, 308])
async def test_a_redirect_to_another_host_is_not_followed(status: int, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-secret")
    with fake_llm() as other:
        away = {"Location": f"http://localhost:{other.port}/v1/chat/completions"}
        with fake_llm(lambda _: Answer(status=status, headers=away)) as named:
            async with LLMClient(named.endpoint(api_key_file=str(tmp_path / "key"))) as client:
                with pytest.raises(TerminalFailure, match=r"127\.0\.0\.1 redirects to localhost") as caught:
                    await client.chat(HELLO, sampling=SAMPLING)
        assert caught.value.reason == Reason.LLM_ACCESS_DENIED
        assert (len(named.requests), other.requests) == (1, [])


@pytest.mark.bad_input
@pytest.mark.parametrize("host", ["169.254.169.254", "2852039166", "[fd00:ec2::254]", "metadata.google.internal"])
async def test_neither_a_proxy_nor_a_redirect_is_asked_for_what_nodes_keep_to_themselves(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy resolves names by itself, and is at an address of its own: the name is judged before it is asked."""
    with fake_llm() as proxy, fake_llm(lambda _: Answer(status=307, headers={"Location": f"http://{host}/"})) as named:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for url in (f"http://{host}/v1", f"http://127.0.0.1:{named.port}/v1"):
            async with LLMClient(named.endpoint(base_url=url)) as client:
                with pytest.raises(TerminalFailure, match="credentials of their own") as caught:
                    await client.chat(HELLO, sampling=SAMPLING)
            assert caught.value.reason == Reason.LLM_ACCESS_DENIED
        assert proxy.requests == []


async def test_a_redirect_within_the_host_is_followed() -> None:
    moved = iter([Answer(status=307, headers={"Location": "/v2/chat/completions"}), Answer("there")])
    with fake_llm(lambda _: next(moved)) as named:
        async with LLMClient(named.endpoint()) as client:
            assert (await client.chat(HELLO, sampling=SAMPLING)).text == "there"
