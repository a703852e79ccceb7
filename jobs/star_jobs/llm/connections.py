"""The HTTP client under every call of a model server: which connections are kept, and which go through a proxy.

A server may close a kept connection just as it is used again (RFC 9112, 9.3.1). Nothing of an answer has come then,
and a generation has no effect but its answer, so it is asked for again on another connection: the server is well, and
nobody need know.
"""

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import httpx2

from star_contracts.addresses import is_forbidden_address
from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure

KEPT_SECONDS = 4.0
"""How long an idle connection is kept: less than the 5 s after which uvicorn, and so vLLM, closes it."""
_CONNECTING = "connection.connect_tcp."


class ReconnectingClient(httpx2.AsyncClient):
    """An HTTP client whose requests may all be repeated."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request; again while it meets kept connections that have been closed meanwhile.

        Raises httpx2.TransportError as soon as a new connection fails: that says something about the server.
        """
        while True:
            opened = answered = False

            async def trace(event: str, info: dict[str, Any]) -> None:
                nonlocal opened, answered
                opened |= event.startswith(_CONNECTING)
                if event == f"{_CONNECTING}complete":
                    _refuse_address(info["return_value"].get_extra_info("server_addr"), request.url.host)
                answered |= event.endswith("receive_response_headers.complete")

            request.extensions["trace"] = trace
            try:
                return await super().send(request, **options)
            except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
                if opened or answered:
                    raise


def _refuse_address(address: tuple[Any, ...] | None, host: str) -> None:
    """Refuse a connection, before anything is sent, whose name stands for an address of the node's or the cloud's own.

    Raises TerminalFailure(LLMAccessDenied).
    """
    if address is not None and is_forbidden_address(str(address[0])):
        raise TerminalFailure(
            Reason.LLM_ACCESS_DENIED,
            f"{host} is at {address[0]}, where nodes and clouds keep credentials of their own; nothing was sent: name "
            "an LLM's endpoint in endpoint.url",
        )


def is_in_cluster(url: str) -> bool:
    """Tell whether a URL names a Service or this machine: no proxy can reach these, whatever the environment says.

    Anything else goes through `HTTPS_PROXY` or `HTTP_PROXY` where they are set and `NO_PROXY` does not name it.
    """
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return "." not in host or host.endswith(".svc") or ".svc." in host
