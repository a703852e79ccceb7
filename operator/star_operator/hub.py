"""Hugging Face compatible hubs: the commit that a model's name stands for now.

A branch or a tag is a name: what it stands for changes. A run resolves it once, when it begins, and works with the
commit, which its work hash and its status have.
"""

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # documented, not in its stubs

import aiohttp

from star_operator.core.errors import InvalidSpec, Waiting
from star_operator.core.reasons import ConditionReason
from star_operator.core.settings import Settings

PUBLIC = "https://huggingface.co"
BRANCH = "main"
COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT = aiohttp.ClientTimeout(total=5)
_MISSING = {401, 403, 404}
"""The public hub answers 401 for what is not there as for what is private."""
_PIN = "or write its commit behind it, hf://org/name@<40 hex digits>, which needs no hub here"


def is_pinned(model: str) -> bool:
    """Say whether `org/name[@revision]` names a commit."""
    return COMMIT.fullmatch(model.partition("@")[2]) is not None


@dataclass(frozen=True)
class Hub:
    """A hub as pods of a pool reach it."""

    settings: Settings
    env: Mapping[str, str]
    """The pool's environment: HF_ENDPOINT and HF_TOKEN, where it has them."""

    @property
    def endpoint(self) -> str:
        """The hub's URL."""
        return self.env.get("HF_ENDPOINT", PUBLIC).rstrip("/")

    async def pin(self, model: str, field: str) -> str:
        """Return `org/name@<commit>` of `org/name[@revision]`; `field` is where the spec names it.

        Raises InvalidSpec(ModelNotFound), or Waiting(HubUnreachable).
        """
        name, _, revision = model.partition("@")
        url = f"{self.endpoint}/api/models/{name}/revision/{quote(revision or BRANCH, safe='')}"
        where = f"{field}: the hub at {self.endpoint}"
        try:
            status, found = await self._get(url)
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
            # aiohttp's own words have an address in memory, which would make each look a new state of things.
            cause = getattr(error, "os_error", None) or error
            detail = " ".join(str(cause).split())[:200] or type(cause).__name__
            text = f"{where} does not answer the operator ({detail}); check the way to it, {_PIN}"
            raise Waiting(ConditionReason.HUB_UNREACHABLE, text) from error
        if status in _MISSING:
            text = f"{where} has no {model} for this operator (HTTP {status}); correct the name or the revision, {_PIN}"
            raise InvalidSpec(ConditionReason.MODEL_NOT_FOUND, text)
        commit = found.get("sha") if isinstance(found, dict) else None
        if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
            text = f"{where} did not say which commit {model} is (HTTP {status}); check HF_ENDPOINT of the pool, {_PIN}"
            raise Waiting(ConditionReason.HUB_UNREACHABLE, text)
        return f"{name}@{commit}"

    async def _get(self, url: str) -> tuple[int, object]:
        token = self.env.get("HF_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT, headers=headers) as session,
            session.get(url, proxy=self._proxy(url), ssl=await asyncio.to_thread(self._trusted)) as answer,
        ):
            return answer.status, await answer.json(content_type=None) if answer.status == 200 else None

    def _trusted(self) -> ssl.SSLContext:
        # Comments of a bundle may be in any language; PEM itself is ASCII, and more is refused.
        return ssl.create_default_context(cadata=self.settings.ca_bundle.encode("ascii", "ignore").decode() or None)

    def _proxy(self, url: str) -> str | None:
        proxies = self.settings.proxy.environment(self.settings.cluster_domain)
        address = urlsplit(url)
        direct = proxy_bypass_environment(address.netloc, {"no": proxies.get("NO_PROXY", "")})
        return None if direct else proxies.get(f"{address.scheme.upper()}_PROXY")
