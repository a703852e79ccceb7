"""What an endpoint's failures mean: worth another try, or a typed end with a sentence that says what to do."""

import random
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import openai

from star_contracts.errors import Reason
from star_contracts.job import LLMEndpoint
from star_jobs.errors import JobFailure, RetryableFailure, TerminalFailure

_TRANSIENT_STATUS = frozenset({408, 409, 425, 429})
_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0
_LONGEST_REST = 3600.0
"""More than a server may ask for with Retry-After; whoever waits is given up by the client's own patience first."""


_BAD_TEMPLATE = re.compile(
    r"chat.template (?:is no longer allowed|is not (?:set|defined|found)|does not|must)|no chat.template"
    r"|(?:provide|has no|without) a chat.template|tokenizer\.chat_template|roles? must alternate"
    r"|system role (?:is )?not supported|jinja|^'[\w. ]+' is undefined",
    re.IGNORECASE,
)
"""What vLLM (through transformers) and others say of a model whose template is missing or refuses our prompts."""
_NO_MODEL = re.compile(r"\bmodel\b[^.]{0,120}(?:does not exist|not exist|not found)|no such model", re.IGNORECASE)
_BAD_KEY = re.compile(r"(?:incorrect|invalid) api.?key|api.?key (?:is )?(?:not valid|invalid|incorrect)", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"context.?(?:length|window)|max_(?:completion_|model_)?(?:tokens|len)|too (?:long|many tokens)|longer than"
    r"|reduce the length",
    re.IGNORECASE,
)


class RequestRefused(TerminalFailure):
    """The endpoint refused one request (HTTP 400, 413, 422), e.g. as longer than the model's context.

    Callers with many requests may count it and go on: another request can be fine.
    """

    def __init__(self, message: str) -> None:
        super().__init__(Reason.INVALID_JOB_SPEC, message)


class EndpointBusy(RetryableFailure):
    """The endpoint has too much to do just now (HTTP 429): it is well, and asks to be left alone for a while."""

    def __init__(self, endpoint: LLMEndpoint, seconds: float | None) -> None:
        super().__init__(Reason.LLM_UNREACHABLE, f"llm endpoint {endpoint.base_url} is busy (HTTP 429)")
        self.seconds = seconds
        """What it asked for with Retry-After; None when it did not say."""


class Backoff:
    """Delays between tries: doubling, with jitter, up to half a minute."""

    def __init__(self) -> None:
        self.attempts = 0

    def delay(self) -> float:
        """Return the seconds to wait before the next try and count it."""
        longest: float = min(_LONGEST_DELAY, _FIRST_DELAY * 2**self.attempts)
        self.attempts += 1
        # Jitter keeps thousands of calls that failed together from coming back together.
        return random.uniform(longest / 2, longest)  # noqa: S311


def is_transient(error: openai.APIError) -> bool:
    """Tell whether the same request may succeed later."""
    if isinstance(error, openai.APIStatusError):
        return (error.status_code in _TRANSIENT_STATUS or error.status_code >= 500) and not _is_unpaid(error)
    return isinstance(error, openai.APIConnectionError) and not isinstance(error.__cause__, JobFailure)


def as_failure(error: openai.APIError, endpoint: LLMEndpoint) -> JobFailure:
    """Return the typed failure for an error that another try cannot mend.

    What is about the endpoint's model, key or account ends the work, whatever status it comes with; what is about one
    request is that request's alone.
    """
    if isinstance(error.__cause__, JobFailure):
        return error.__cause__
    if not isinstance(error, openai.APIStatusError):
        return not_an_api(endpoint, _detail(error))
    status, detail = error.status_code, _detail(error)
    if _is_unpaid(error):
        return TerminalFailure(
            Reason.LLM_ACCESS_DENIED,
            f"llm endpoint {endpoint.base_url} has no credit left for this key (HTTP {status}: {detail}); top up the "
            "account, or name another key in the llm endpoint's secretRef",
        )
    if status == 401 and endpoint.ask_port is not None:  # both keys are the operator's: nobody's spec is at fault
        return RetryableFailure(
            Reason.LLM_UNREACHABLE,
            f"llm server {endpoint.base_url} has another key than this attempt was given, as the operator's own was "
            "changed meanwhile; the next attempt is given the present one",
        )
    if status in (401, 403) or _BAD_KEY.search(detail):
        return TerminalFailure(Reason.LLM_ACCESS_DENIED, _access_denied(error, endpoint))
    if status == 404 or error.code == "model_not_found" or _NO_MODEL.search(detail):
        return TerminalFailure(
            Reason.INVALID_MODEL,
            f"llm endpoint {endpoint.base_url} has no model {endpoint.model!r} (HTTP {status}: {detail}); check "
            "llm.endpoint.model and that the URL ends in /v1",
        )
    if _BAD_TEMPLATE.search(detail):
        return TerminalFailure(
            Reason.INVALID_MODEL,
            f"llm endpoint {endpoint.base_url} serves {endpoint.model!r} without a chat template that renders our "
            f"prompts (HTTP {status}: {detail}); serve a chat (instruct) model, or add a template to its tokenizer",
        )
    if status == 413 or _TOO_LONG.search(detail):
        advice = "check sampling.maxTokens and the dataset's historyLength against the model's context length"
    else:
        advice = "check the llm's sampling, and whether the endpoint takes what vLLM and OpenAI's API take"
    return RequestRefused(f"llm endpoint {endpoint.base_url} refused a request (HTTP {status}: {detail}); {advice}")


def _is_unpaid(error: openai.APIStatusError) -> bool:
    """Tell whether an account is out of credit: DeepSeek says 402, OpenAI 429 as if it were a matter of waiting."""
    return error.status_code == 402 or error.code == "insufficient_quota" or error.type == "insufficient_quota"


def not_an_api(endpoint: LLMEndpoint, detail: str) -> TerminalFailure:
    """Return the failure for an answer that is no chat completion."""
    return TerminalFailure(
        Reason.LLM_OUTPUT_INVALID,
        f"llm endpoint {endpoint.base_url} did not answer as an OpenAI-compatible API: {detail}; check that the URL "
        "ends in /v1",
    )


def breaks_the_server(error: openai.APIError, endpoint: LLMEndpoint, tries: int) -> RequestRefused:
    """Return the failure of a request that the server fails at, time and again, while it answers others."""
    return RequestRefused(
        f"llm endpoint {endpoint.base_url} failed {tries} times at one request, and answered others meanwhile (last: "
        f"{_detail(error)}); the server's log says why"
    )


def unreachable(error: openai.APIError, endpoint: LLMEndpoint, seconds: float) -> RetryableFailure:
    """Return the failure for an endpoint that has not answered for `seconds`."""
    status = f"HTTP {error.status_code}" if isinstance(error, openai.APIStatusError) else type(error).__name__
    return RetryableFailure(
        Reason.LLM_UNREACHABLE,
        f"llm endpoint {endpoint.base_url} has not answered for {seconds:.0f} s (last: {status}, {_detail(error)}); "
        "check that the model server runs and that the URL and network policy allow this pod to reach it",
    )


def unknown_model(endpoint: LLMEndpoint, served: list[str]) -> TerminalFailure:
    """Return the failure for a model that is not among those an endpoint lists."""
    shown = ", ".join(sorted(served)[:5])
    return TerminalFailure(
        Reason.INVALID_MODEL,
        f"llm endpoint {endpoint.base_url} serves {shown}, not {endpoint.model!r}; set the model to one of these",
    )


def cannot_ask(port: int, problem: str) -> TerminalFailure:
    """Return the failure for a pod that cannot listen where it asks for its model: nobody would start it."""
    return TerminalFailure(
        Reason.INVALID_JOB_SPEC,
        f"cannot listen on port {port} to ask for the model server ({problem}); no other container of this pod, such "
        "as an injected sidecar, may use that port",
    )


def unusable_key(path: str, problem: str) -> TerminalFailure:
    """Return the failure for a key file that is missing or empty."""
    return TerminalFailure(
        Reason.LLM_ACCESS_DENIED,
        f"llm API key file {path} cannot be used ({problem}); check the Secret named in the llm endpoint and its key",
    )


def _access_denied(error: openai.APIStatusError, endpoint: LLMEndpoint) -> str:
    key = f"the key in {endpoint.api_key_file}" if endpoint.api_key_file else "a request without a key"
    advice = "check the Secret" if endpoint.api_key_file else "name a Secret with an API key"
    return (
        f"llm endpoint {endpoint.base_url} refused {key} (HTTP {error.status_code}); {advice} in the llm endpoint's "
        "secretRef and the key's rights"
    )


def retry_after(error: openai.APIError) -> float | None:
    """Return the seconds of rest that the server asks for: `Retry-After` as seconds or as a date (RFC 9110, 10.2.3)."""
    if not isinstance(error, openai.APIStatusError):
        return None
    asked = error.response.headers.get("retry-after", "")
    try:
        seconds = float(asked)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(_LONGEST_REST, max(0.0, seconds))


def _detail(error: openai.APIError) -> str:
    """Return the server's own sentence where it gave one, as OpenAI's API does or as FastAPI does."""
    cause = f" ({error.__cause__})" if isinstance(error, openai.APIConnectionError) and error.__cause__ else ""
    body = error.body if isinstance(error.body, dict) else {}
    said = next((body[key] for key in ("message", "detail", "error") if isinstance(body.get(key), str)), error.message)
    return " ".join((said + cause).split())[:300]
