"""The HTTP client under every call of a model server: which connections are kept, and which go through a proxy.

A server may close a kept connection just as it is used again (RFC 9112, 9.3.1). Nothing of an answer has come then,
and a generation has no effect but its answer, so it is asked for again on another connection: the server is well, and
nobody need know.

Nothing is sent to where nodes and clouds keep credentials of their own, whatever name, or redirect, leads there. What
is judged is the address that a connection has been made to: a name may stand for another one a moment later. Through a
proxy, which resolves names by itself, the name alone is judged, and the proxy's own rules hold.
"""

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import httpx2

from star_contracts.addresses import host_of, is_forbidden_address, is_forbidden_host
from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure

KEPT_SECONDS = 4.0
"""How long an idle connection is kept: less than the 5 s after which uvicorn, and so vLLM, closes it."""
_CONNECTING = "connection.connect_tcp."
_ASKED = "star.asked"
"""Key of a request's extensions, which redirects inherit: the host that the caller has named."""


class ReconnectingClient(httpx2.AsyncClient):
    """An HTTP client whose requests may all be repeated. Redirects to another host are refused."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.event_hooks = {"request": [_refuse_host]}

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

            request.extensions |= {"trace": trace, _ASKED: request.url.host}
            try:
                return await super().send(request, **options)
            except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
                if opened or answered:
                    raise


async def _refuse_host(request: httpx2.Request) -> None:
    """Refuse a request, or what a redirect has made of it, before anything is sent.

    Raises TerminalFailure(LLMAccessDenied) for a host that keeps credentials, and for one that nobody has named.
    """
    host, asked = request.url.host, request.extensions.get(_ASKED)
    if is_forbidden_host(host_of(str(request.url))):
        raise _refusal(host, "it is")
    if asked not in (None, host):
        raise TerminalFailure(
            Reason.LLM_ACCESS_DENIED,
            f"{asked} redirects to {host}, which nobody has named; nothing was sent there: where it is meant, write it "
            "in endpoint.url",
        )


def _refuse_address(address: tuple[Any, ...] | None, host: str) -> None:
    """Refuse a connection, before anything is sent, whose name stands for an address of the node's or the cloud's own.

    Raises TerminalFailure(LLMAccessDenied).
    """
    if address is not None and is_forbidden_address(str(address[0])):
        raise _refusal(host, f"it is at {address[0]},")


def _refusal(host: str, where: str) -> TerminalFailure:
    return TerminalFailure(
        Reason.LLM_ACCESS_DENIED,
        f"{host} is not called: {where} where nodes and clouds keep credentials of their own; nothing was sent: name "
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
