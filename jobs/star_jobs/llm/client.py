"""An async client for OpenAI-compatible chat endpoints: vLLM in the cluster, or a provider outside.

Every failure becomes a typed one: a key that is refused and a model that is not served are terminal; an endpoint that
does not answer is tried again with back-off and, past its deadline, a retryable failure. Names of vLLM's own request
fields are those of vLLM 0.32 (`vllm/entrypoints/openai/chat_completion/protocol.py`).

A server of the operator's is started when it is asked for, so that a job that finds its work done costs no GPU: a stage
calls `wait_ready` when the first answer is needed and not before. Asking is listening on the endpoint's `ask_port`. The
kubelet's readiness probe connects there, and the pod's condition Ready tells the operator.

Requests go through the `openai` package as finished JSON, and answers are read as JSON: its typed parameters and
results take more than a third of a call's processor time (2.8 ms instead of 1.7), and thousands share one core.
"""

import asyncio
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import openai

from star_contracts.data import Usage
from star_contracts.job import LLMEndpoint
from star_contracts.settings import Sampling
from star_jobs.llm.budget import TokenBudget
from star_jobs.llm.connections import KEPT_SECONDS, ReconnectingClient, is_in_cluster
from star_jobs.llm.failures import (
    Backoff,
    EndpointBusy,
    RequestRefused,
    as_failure,
    breaks_the_server,
    cannot_ask,
    is_transient,
    not_an_api,
    retry_after,
    unknown_model,
    unreachable,
    unusable_key,
)
from star_jobs.llm.messages import ChatMessage
from star_jobs.llm.pacing import Pacer
from star_jobs.llm.structured import Dialect, JsonSchema, response_format, tell_schema
from star_jobs.llm.usage import add_usage
from star_jobs.trajectory.text import whole_text

_POLL_SECONDS = 2.0
_PROBE_TIMEOUT = 10.0
_CONNECT_TIMEOUT = 30.0
_CALLS_PER_POOL = 16
_SERVER_ERRORS_PER_CALL = 8
"""A request that makes the server fail this often is given up, even while the server answers others."""
_MOST_TOKENS = 2**31 - 1
_KEY = re.compile(r"[!-~]+")
_CHARS_A_TOKEN = 4
"""Of a prompt, roughly: what a call is expected to take of a limit on tokens before the server has counted them."""


@dataclass(frozen=True)
class Reply:
    """What the model answered."""

    texts: tuple[str, ...]
    """One for each choice asked for (`n`)."""
    finish_reason: str
    """Of the first choice: `stop`, or `length` when the tokens ran out."""
    usage: Usage
    waited: float
    """Seconds until it was this call's turn: how long others of this client filled the endpoint's concurrency."""

    @property
    def text(self) -> str:
        """The first choice."""
        return self.texts[0]


class LLMClient:
    """A client of one endpoint. Use as an async context manager; calls beyond its concurrency wait their turn.

    `usage` and `retries` add up what all calls spent.
    """

    def __init__(
        self, endpoint: LLMEndpoint, *, pods: int = 1, budget: TokenBudget | None = None, interactive: bool = False
    ) -> None:
        """Read the key; `pods` clients share the endpoint's rate limits, all clients of a pod its budget.

        `interactive` is for people who wait for an answer: an endpoint that is busy is said to be so at once, and it is
        one of the cluster's, so that no proxy is asked.

        Raises TerminalFailure(LLMAccessDenied) when the key's file cannot be read.
        """
        self.endpoint = endpoint
        self.usage = Usage()
        self.retries = 0
        self._budget = budget or TokenBudget()
        self._pacer = Pacer(endpoint.rate_limits, pods)
        self._dialect = Dialect.JSON_SCHEMA
        self._answered_at = 0.0
        self._asking: asyncio.Server | None = None
        self._ready: asyncio.Task[None] | None = None
        self._interactive = interactive
        direct = interactive or is_in_cluster(endpoint.base_url)
        self._apis = _open_pools(endpoint, read_key(endpoint.api_key_file), proxies=not direct)
        self._slots: asyncio.Queue[openai.AsyncOpenAI] = asyncio.LifoQueue()
        for slot in range(endpoint.concurrency):
            self._slots.put_nowait(self._apis[slot // _CALLS_PER_POOL])

    @property
    def cost(self) -> float:
        """What all calls cost, by the endpoint's prices; 0 without prices."""
        return cost_of(self.usage, self.endpoint)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ready is not None:
            self._ready.cancel()
        if self._asking is not None:
            self._asking.close()
        await asyncio.gather(*(api.close() for api in self._apis))

    async def wait_ready(self) -> None:
        """Ask for the model, wait until the endpoint lists it, and learn what the endpoint understands.

        Any number of callers may need the first answer: they wait together, and once it is ready nobody waits.

        Raises RetryableFailure(LLMUnreachable) after `startup_seconds`, TerminalFailure(LLMAccessDenied) when the key
        is refused, TerminalFailure(InvalidModel) when the endpoint serves other models only, and
        TerminalFailure(InvalidJobSpec) when something else of the pod listens on `ask_port`.
        """
        if self._ready is None:
            self._ready = asyncio.create_task(self._become_ready())
        await asyncio.shield(self._ready)

    async def _become_ready(self) -> None:
        await self._ask_for_model()
        limit = self.endpoint.startup_seconds
        deadline = time.monotonic() + limit
        pause = min(_POLL_SECONDS, limit / 10)
        while True:
            try:
                listed = await self._apis[0].get(
                    "/models", cast_to=httpx2.Response, options={"timeout": _PROBE_TIMEOUT}
                )
                break
            except openai.APIError as error:
                if isinstance(error, openai.NotFoundError):
                    return  # Some providers list no models; the first call will tell.
                if not is_transient(error):
                    raise as_failure(error, self.endpoint) from error
                if time.monotonic() + pause > deadline:
                    raise unreachable(error, self.endpoint, limit) from error
                await asyncio.sleep(pause)
        owners = _owners(listed.content)
        if owners and self.endpoint.model not in owners:
            raise unknown_model(self.endpoint, list(owners))
        if "vllm" in owners.values():
            self._dialect = Dialect.VLLM

    async def _ask_for_model(self) -> None:
        port = self.endpoint.ask_port
        if port is None:
            return
        try:
            # All interfaces, as the kubelet connects to the pod's address; shared with the pod's other clients.
            self._asking = await asyncio.start_server(_hang_up, port=port, reuse_port=True)
        except OSError as error:
            raise cannot_ask(port, error.strerror or str(error)) from error

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        sampling: Sampling,
        schema: JsonSchema | None = None,
        regex: str | None = None,
        stop: Sequence[str] = (),
        continue_final: bool = False,
        n: int = 1,
        template_arguments: Mapping[str, object] | None = None,
    ) -> Reply:
        """Ask once, trying again while the endpoint is busy or away.

        `schema` or `regex` (vLLM only) constrain the answer; `continue_final` goes on with the last message, the
        assistant's own (vLLM only); `template_arguments` go to the chat template (vLLM only).

        Raises RetryableFailure(LLMUnreachable), TerminalFailure(LLMAccessDenied, InvalidModel, LLMOutputInvalid,
        TokenBudgetSpent), RequestRefused or, to an interactive client, EndpointBusy.
        """
        self._budget.check()
        request: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": list(messages),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "n": n,
        }
        if sampling.seed is not None:
            request["seed"] = sampling.seed
        if stop:
            request["stop"] = list(stop)
        if regex is not None:
            request["structured_outputs"] = {"regex": regex}
        if continue_final:
            request |= {"add_generation_prompt": False, "continue_final_message": True}
        if template_arguments:
            request["chat_template_kwargs"] = dict(template_arguments)
        return await self._ask(request, schema)

    async def _ask(self, request: dict[str, Any], schema: JsonSchema | None) -> Reply:
        if schema is None:
            return await self._call(request)
        dialect = self._dialect
        try:
            return await self._call(_constrained(request, schema, dialect))
        except RequestRefused:
            if dialect is not Dialect.JSON_SCHEMA:
                raise
        # Not every provider takes a schema; if it takes the request without one, that was the reason.
        reply = await self._call(_constrained(request, schema, Dialect.JSON_OBJECT))
        self._dialect = Dialect.JSON_OBJECT
        return reply

    async def _call(self, request: dict[str, Any]) -> Reply:
        backoff = Backoff()
        started = time.monotonic()
        content = json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode()
        expected = len(content) / _CHARS_A_TOKEN + request["max_tokens"] * request["n"]
        while True:
            try:
                reply = await self._send(content, expected)
                self._pacer.settle(expected, reply.usage.prompt_tokens + reply.usage.completion_tokens)
                return reply
            except openai.APIError as error:
                if not is_transient(error):
                    raise as_failure(error, self.endpoint) from error
                if self._interactive and isinstance(error, openai.RateLimitError):
                    raise EndpointBusy(self.endpoint, retry_after(error)) from error
                self._check_patience(error, started, backoff.attempts)
                self.retries += 1
                pause = backoff.delay()
                if (rest := retry_after(error)) is not None:
                    # The endpoint's word holds for everybody: whoever asks now only prolongs it.
                    self._pacer.rest(rest)
                    pause = 0.0
            await asyncio.sleep(pause)

    async def _send(self, content: bytes, expected: float) -> Reply:
        asked = time.monotonic()
        api = await self._slots.get()
        waited = time.monotonic() - asked
        try:
            await self._pacer.admit(expected)
            response = await api.post("/chat/completions", cast_to=httpx2.Response, content=content)
        finally:
            self._slots.put_nowait(api)
        self._answered_at = time.monotonic()
        reply = read_completion(response.content, self.endpoint, waited)
        self.usage = add_usage(self.usage, reply.usage)
        self._budget.spend(reply.usage)
        return reply

    def _check_patience(self, error: openai.APIError, started: float, attempts: int) -> None:
        """Give up when nobody has been answered for the time a start may take, or this request alone breaks it.

        Raises RequestRefused for a request that fails again and again while others are answered: it ends for itself.
        """
        silence = time.monotonic() - max(started, self._answered_at)
        busy = isinstance(error, openai.RateLimitError)
        poison = isinstance(error, openai.APIStatusError | openai.APITimeoutError) and not busy
        hopeless = poison and attempts >= _SERVER_ERRORS_PER_CALL
        if hopeless and self._answered_at > started:
            raise breaks_the_server(error, self.endpoint, attempts + 1) from error
        if hopeless or silence > self.endpoint.startup_seconds:
            raise unreachable(error, self.endpoint, time.monotonic() - started) from error


def _hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let whoever connected go: that it could was the answer."""
    writer.close()


def cost_of(usage: Usage, endpoint: LLMEndpoint) -> float:
    """Return what these tokens cost at this endpoint; 0 where it has no prices."""
    return endpoint.prices.cost(usage.prompt_tokens, usage.completion_tokens) if endpoint.prices else 0.0


def read_completion(content: bytes, endpoint: LLMEndpoint, waited: float) -> Reply:
    """Read a chat completion. Raises TerminalFailure(LLMOutputInvalid) for anything else."""
    try:
        completion = json.loads(content)
        choices = completion["choices"]
        spent = completion.get("usage") or {}
        texts = tuple(_text(choice["message"].get("content")) for choice in choices)
        usage = Usage(
            prompt_tokens=_tokens(spent.get("prompt_tokens")),
            completion_tokens=_tokens(spent.get("completion_tokens")),
            calls=1,
        )
        finish_reason = str(choices[0].get("finish_reason") or "stop") if choices else ""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise not_an_api(endpoint, f"its answer is no chat completion ({type(error).__name__}: {error})") from error
    if not texts:
        raise not_an_api(endpoint, "it answered without any choice")
    return Reply(texts, finish_reason, usage, waited)


def _text(content: object) -> str:
    """Return what a message says. Half a surrogate pair becomes U+FFFD, as in every decoder: it can be written then."""
    if content is None:
        return ""
    if not isinstance(content, str):
        raise TypeError(f"content is {type(content).__name__} and not text")
    return whole_text(content)


def _tokens(count: object) -> int:
    if count is None:
        return 0
    if not isinstance(count, int) or not 0 <= count <= _MOST_TOKENS:
        raise ValueError(f"usage counts {str(count)[:20]} tokens")
    return count


def _owners(content: bytes) -> dict[str, object]:
    """Return the models that an endpoint lists, with their owners; none when it lists them in no way that is known."""
    try:
        return {str(model["id"]): model.get("owned_by") for model in json.loads(content)["data"]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # The first call will tell.


def _open_pools(endpoint: LLMEndpoint, key: str, *, proxies: bool) -> list[openai.AsyncOpenAI]:
    """Return API clients with a connection for each call in flight between them.

    Several, as httpx looks through all connections of a pool for each request: with 3000 calls in flight one pool costs
    45 ms of CPU a call, small ones less than 2 ms. They share what TLS needs, which is slow to load.
    """
    pools = -(-endpoint.concurrency // _CALLS_PER_POOL)
    tls = httpx2.create_ssl_context()
    most = _CALLS_PER_POOL + 1
    limits = httpx2.Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=KEPT_SECONDS)
    timeout = httpx2.Timeout(endpoint.timeout_seconds, connect=_CONNECT_TIMEOUT)
    return [
        openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=key,
            max_retries=0,
            http_client=ReconnectingClient(
                limits=limits, timeout=timeout, verify=tls, trust_env=proxies, follow_redirects=True
            ),
        )
        for _ in range(pools)
    ]


def _constrained(request: dict[str, Any], schema: JsonSchema, dialect: Dialect) -> dict[str, Any]:
    constrained = request | {"response_format": response_format(schema, dialect)}
    if dialect is Dialect.JSON_OBJECT:
        constrained["messages"] = tell_schema(request["messages"], schema)
    return constrained


def read_key(path: str | None) -> str:
    """Return the key in a mounted file; a word that is none where no file is named.

    Raises TerminalFailure(LLMAccessDenied) when it cannot be used, without any of its content.
    """
    if path is None:
        return "none"
    try:
        # Editors put a byte order mark in front, which is no part of the key.
        key = Path(path).read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise unusable_key(path, error.strerror or "unreadable") from error
    except UnicodeDecodeError:
        raise unusable_key(path, "not UTF-8") from None
    if not key:
        raise unusable_key(path, "empty")
    if not _KEY.fullmatch(key):
        raise unusable_key(path, "not one word of plain ASCII")
    return key
