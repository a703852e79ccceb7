"""What stands before vLLM lets nothing through without the key, whatever the path."""

import asyncio
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from star_contracts.serving import SERVER_KEY_PATH
from star_jobs.llm.guard import KeyGuard
from star_operator.builders.keys import SERVER_KEY
from star_operator.builders.pod import key_path

KEY = "k" * 64
PATHS = (
    "/v1/models",
    "/v1/chat/completions",
    "/tokenize",
    "/invocations",
    "/pause",
    "/",
    "/docs",
    "/healthz",
    "//health",
)


class App:
    """An ASGI application that counts who reaches it."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        self.reached.append(scope.get("path", scope["type"]))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "server"
    path.write_text(KEY + "\n")
    return path


def ask(
    guard: KeyGuard, path: str, *headers: tuple[bytes, bytes], kind: str = "http", method: str = "POST"
) -> list[Any]:
    """What the guard itself answers."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("the body of a refused request is not read")

    scope = {"type": kind, "path": path, "method": method, "headers": list(headers)}
    asyncio.run(guard(scope, receive, send))
    return sent


def test_in_a_pod_the_key_is_where_the_secret_is_mounted() -> None:
    assert ask(KeyGuard(App()), "/v1/models", bearer(KEY))[0]["status"] == 401, "there is no such file here"
    assert key_path(SERVER_KEY) == SERVER_KEY_PATH


def bearer(key: str, scheme: str = "Bearer") -> tuple[bytes, bytes]:
    return b"authorization", f"{scheme} {key}".encode()


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("path", PATHS)
def test_without_the_key_nothing_is_reached(path: str, method: str, key_file: Path) -> None:
    app = App()
    guard = KeyGuard(app, str(key_file))
    for headers in (
        (),
        (bearer("x"),),
        (bearer(KEY, "Basic"),),
        (bearer(KEY), bearer(KEY)),
        ((b"x-api-key", KEY.encode()),),
    ):
        start, body = ask(guard, path, *headers, method=method)
        assert start["status"] == 401
        assert KEY.encode() not in body["body"]
    assert app.reached == []


def test_with_the_key_everything_is_reached(key_file: Path) -> None:
    app = App()
    guard = KeyGuard(app, str(key_file))
    for path in PATHS:
        assert ask(guard, path, bearer(KEY)) == []
        assert ask(guard, path, (b"Authorization", f"bearer {KEY}".encode())) == []
    assert app.reached == [path for path in PATHS for _ in range(2)]


def test_probes_metrics_and_the_start_need_none(key_file: Path) -> None:
    app = App()
    guard = KeyGuard(app, str(key_file))
    assert [ask(guard, path) for path in ("/health", "/metrics")] == [[], []]
    assert ask(guard, "/", kind="lifespan") == []
    assert app.reached == ["/health", "/metrics", "/"]


def test_a_web_socket_is_closed(key_file: Path) -> None:
    assert ask(KeyGuard(App(), str(key_file)), "/v1/realtime", kind="websocket") == [
        {"type": "websocket.close", "code": 1008}
    ]


def test_another_key_holds_as_soon_as_it_is_there(key_file: Path) -> None:
    app = App()
    guard = KeyGuard(app, str(key_file))
    ask(guard, "/v1/models", bearer(KEY))
    key_file.write_text("other")
    os.utime(key_file, ns=(1, 1))
    assert ask(guard, "/v1/models", bearer(KEY))[0]["status"] == 401
    assert ask(guard, "/v1/models", bearer("other")) == []
    key_file.unlink()
    assert ask(guard, "/v1/models", bearer("other")) == [], "a file that is on its way is no reason to stop"


@pytest.mark.bad_input
@pytest.mark.parametrize("content", [None, "", "\n"])
def test_without_a_key_nobody_passes(content: str | None, key_file: Path) -> None:
    if content is None:
        key_file.unlink()
    else:
        key_file.write_text(content)
    for header in (bearer(""), bearer(KEY)):
        assert ask(KeyGuard(App(), str(key_file)), "/v1/models", header)[0]["status"] == 401
