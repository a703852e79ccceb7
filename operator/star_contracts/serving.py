"""What serving pods are told: which artifact to fetch before vLLM starts, and the gateway's configuration."""

from typing import Literal

from pydantic import Field

from star_contracts.artifact import ArtifactRef, Digest, S3Uri
from star_contracts.base import Model
from star_contracts.job import Store
from star_contracts.online import OnlineTarget
from star_contracts.settings import MAX_TOOL_CALLS, Sampling

FETCH_SPEC_PATH = "/etc/star/fetch.json"
GATEWAY_CONFIG_PATH = "/etc/star/gateway.json"
SERVER_KEY_PATH = "/etc/star/keys/server"
"""Where an LLM server, and the gateway in front of it, find the key that requests come with."""


class FetchSpec(Model):
    """Init container of a vLLM pod (`star-job fetch`): download one artifact, verified, into a local folder."""

    format_version: Literal[1] = 1
    store: Store
    artifact: ArtifactRef
    destination: str
    """Local folder; it appears whole or not at all."""
    chat_template: str | None = None
    """vLLM's `--chat-template`, where a server is given one: the model then needs none of its own."""


class Backend(Model):
    """One revision of the student behind the gateway."""

    revision: str
    """Short name of the revision, e.g. the first 12 hex digits of the checkpoint's digest."""
    checkpoint: Digest
    """Digest of the checkpoint this backend serves; answered to clients, so that they can tell."""
    base_url: str
    """vLLM's OpenAI-compatible URL up to `/v1`."""
    model: str
    """Served model name."""
    weight: int = Field(default=100, ge=0, le=100)
    """Share of users routed here, relative to the other backends."""
    api_key_file: str | None = None
    """Mounted file with the key that it wants; None for one that wants none."""


class GatewayConfig(Model):
    """The gateway's configuration file. A changed file takes effect without a restart."""

    format_version: Literal[1] = 1
    store: Store
    dataset: ArtifactRef
    """Where item titles and, for known users, histories come from."""
    signals: ArtifactRef | None = None
    """The look-up store of summaries, and of the answers to the student's tool calls."""
    backends: tuple[Backend, ...] = Field(min_length=1)
    hold: bool = False
    """The servers are scaled to nothing, or on their way back: a request waits for one until its deadline."""
    sampling: Sampling = Sampling()
    best_of: int = Field(default=1, ge=1, le=16)
    max_tool_calls: int = Field(default=MAX_TOOL_CALLS, ge=0)
    """Tool calls answered in one generation before the student has to go on without; 0 serves a student that has no
    tools."""
    deadline_seconds: float = Field(default=60, gt=0)
    max_in_flight: int = Field(default=256, ge=1)
    """Requests admitted at once; more are answered 429 at once with Retry-After."""
    api_keys_file: str | None = None
    """Mounted file with one key a line; None admits everybody."""
    allowed_origins: tuple[str, ...] = ()
    """Origins whose pages may call from a browser, as `https://shop.example`, or `*` for all; none by default."""
    max_candidates: int = Field(default=100, ge=2, le=1000)
    """Candidates in one request at most: they all have to fit into the student's prompt."""
    max_batch: int = Field(default=64, ge=1, le=1000)
    """Requests in one call of `/v1/recommend:batch` at most."""
    drain_seconds: float = Field(default=5, ge=0)
    """After SIGTERM the gateway reads as not ready but still answers for this long, so that endpoints can forget it."""
    online: OnlineTarget | None = None
    """Where the gateway reports how its recommendations are taken; None keeps that to itself."""
    feedback: S3Uri | None = None
    """Prefix under which feedback is kept as JSON Lines; None keeps it in the log alone."""
