"""The OpenAI-compatible pass-through, what is asked: `/v1/chat/completions`, `/v1/completions` and `/v1/models`.

Requests go to a revision as `/v1/recommend`'s do (sticky by the body's `user`), with the `model` rewritten to what that
backend serves.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from star_contracts.serving import Backend
from star_jobs.serve.backends import BackendHandle, BackendPool
from star_jobs.serve.problems import Problem
from star_jobs.serve.recommend import Caller
from star_jobs.serve.strictjson import JsonObject

ANY_MODEL = "star"
"""The `model` that means: whichever revision this user belongs to."""

_MODEL_SHOWN = 100
"""Characters of a name that there is not: the answer is not to be as long as the request."""


@dataclass(frozen=True)
class Call:
    """A parsed pass-through request."""

    path: str
    """`chat/completions` or `completions`."""
    model: str
    user: str
    """Routing key."""
    rest: bytes
    """The body's other members, as JSON from the first one's name to the closing brace: in memory a call is text."""
    caller: Caller

    def content(self, model: str) -> bytes:
        """Return the body for a backend that serves `model`."""
        comma = b"" if self.rest == b"}" else b","
        return b'{"model":' + json.dumps(model).encode() + comma + self.rest


def call_of(path: str, body: JsonObject, *, caller: Caller, user_header: str | None) -> Call:
    """Understand a body. Raises Problem 422; what fields that are not named here mean is left to the backend."""
    model, user, stream = body.pop("model", None), body.get("user"), body.get("stream")
    if not isinstance(model, str | None):
        raise Problem(422, "invalid-request", "model: must be a string; GET /v1/models lists them.", field="model")
    if not isinstance(user, str | None):
        raise Problem(422, "invalid-request", "user: must be a string.", field="user")
    if not isinstance(stream, bool | None):
        # Backends differ on what 1 and "true" mean: some would stream to a client that waits for one whole answer.
        raise Problem(422, "invalid-request", "stream: must be true or false.", field="stream")
    rest = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return Call(path, model or ANY_MODEL, user or user_header or caller.request_id, rest[1:], caller)


def candidates(call: Call, pool: BackendPool) -> list[BackendHandle]:
    """Return whom to ask, first choice first: `model` is `star`, a served model's name, or a revision.

    Raises Problem 404 for a model there is not.
    """
    backends = [handle.backend for handle in pool.handles]
    model = call.model
    if call.caller.pinned is not None or model in {backend.revision for backend in backends}:
        return pool.order(call.user, call.caller.pinned or model)
    handles = [handle for handle in pool.order(call.user) if model in (ANY_MODEL, handle.backend.model)]
    if not handles:
        raise Problem(
            404,
            "unknown-model",
            f"model: there is no {model[:_MODEL_SHOWN]!r} here; use one of {', '.join(model_names(backends))}.",
            field="model",
        )
    return handles


def model_names(backends: Sequence[Backend]) -> list[str]:
    """Return every name that `model` may have."""
    served = dict.fromkeys(backend.model for backend in backends)
    return list(dict.fromkeys([ANY_MODEL, *served, *(backend.revision for backend in backends)]))


def model_list(backends: Sequence[Backend]) -> dict[str, Any]:
    """Return the answer of `/v1/models`: each name with the revisions that may answer to it."""

    def entry(name: str) -> dict[str, Any]:
        answering = [b for b in backends if name in (ANY_MODEL, b.model, b.revision)]
        revisions = [{"revision": b.revision, "checkpoint": b.checkpoint, "weight": b.weight} for b in answering]
        return {"id": name, "object": "model", "created": 0, "owned_by": "star", "revisions": revisions}

    return {"object": "list", "data": [entry(name) for name in model_names(backends)]}
