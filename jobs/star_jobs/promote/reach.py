"""Where a repository's or a forge's host is: never where nodes and clouds keep credentials of their own.

Git is told the addresses that were looked at (`http.curloptResolve`), so that a name which stands for others a moment
later leads nowhere else. Over SSH nothing is said to a host whose key `known_hosts` of the Secret does not have.
Through a proxy, which resolves names by itself, the name alone is judged, and the proxy's own rules hold.
"""

import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from star_contracts.addresses import is_forbidden_address, is_forbidden_host
from star_contracts.errors import Reason
from star_contracts.promotion import repository_host
from star_jobs.errors import TerminalFailure

_HTTPS = 443


def pinned(repository: str) -> str:
    """Return a repository's host as `host:port:address,...` for git; nothing where it is not reached by HTTPS, or where
    its name is not known here: git will say so, or a proxy will know it.

    Raises TerminalFailure(GitRefused) where it is an address that nobody may call.
    """
    host = repository_host(repository)
    if is_forbidden_host(host):
        raise _refusal("target.repository", host, "it is", Reason.GIT_REFUSED)
    found = _addresses(host) if host else []
    for address in found:
        _require("target.repository", host, address, Reason.GIT_REFUSED)
    parts = urlsplit(repository)
    if parts.scheme != "https" or not found:
        return ""
    port = parts.port or _HTTPS
    return f"{host}:{port}:{','.join(f'[{one}]' if ':' in one else one for one in found)}"


def guard(url: str) -> Callable[[str, dict[str, Any]], None]:
    """Return the trace of a request to a forge (httpcore, `trace`) that ends it before anything is sent.

    It raises TerminalFailure(ForgeRefused) once a connection leads to an address that nobody may call; and so does this
    for a URL that names one.
    """
    host = urlsplit(url).hostname or ""
    if is_forbidden_host(host):
        raise _refusal("git.forge.url", host, "it is", Reason.FORGE_REFUSED)

    def trace(event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            address = info["return_value"].get_extra_info("server_addr")
            if address is not None:
                _require("git.forge.url", host, str(address[0]), Reason.FORGE_REFUSED)

    return trace


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [*dict.fromkeys(str(address[0]) for *_, address in found)]


def _require(field: str, host: str, address: str, reason: Reason) -> None:
    if is_forbidden_address(address):
        raise _refusal(field, host, f"it is at {address},", reason)


def _refusal(field: str, host: str, where: str, reason: Reason) -> TerminalFailure:
    return TerminalFailure(
        reason,
        f"{host} is not called: {where} where nodes and clouds keep credentials of their own; nothing was sent: "
        f"correct {field}",
    )
