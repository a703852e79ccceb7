"""The progress endpoint: reports are taken from the resource's namespace, and nothing that is sent can do harm."""

import gzip
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from star_contracts.online import ONLINE_PATH
from star_contracts.progress import PROGRESS_PATH, ProgressReport
from star_operator.core.errors import Retryable
from star_operator.core.online import OnlineBoard
from star_operator.core.progress import MAX_RESOURCES, ProgressBoard
from star_operator.core.queue import WorkQueue
from star_operator.kube.tokens import TokenReviewer
from star_operator.reconcilers.context import Context
from star_operator.server import progress_app
from tests.support.fakecluster import FakeCluster
from tests.support.goldens import settings as operator_settings

TARGET = {
    "url": "http://operator/v1/progress",
    "kind": "SFTJob",
    "namespace": "team",
    "name": "sft",
    "uid": "u-1",
    "attempt": 1,
    "step": "train",
}
REPORT: dict[str, Any] = {"target": TARGET, "done": 3, "total": 10, "unit": "steps", "metrics": {"loss": 0.5}}
TOKEN = {"Authorization": "Bearer of-team"}


class Reviewed(FakeCluster):
    """Knows one token; answers not at all while it is away."""

    away = False

    async def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        if self.away:
            raise Retryable("ApiServerUnreachable", "away")
        known = obj["spec"]["token"] == "of-team"
        user = {"username": "system:serviceaccount:team:star-job"} if known else {}
        return {"status": {"authenticated": known, "user": user}}


class Endpoint:
    """The endpoint and what it keeps."""

    def __init__(self) -> None:
        self.cluster = Reviewed()
        self.context = Context(self.cluster, operator_settings(), WorkQueue(time.monotonic))
        self.leads = True
        app = progress_app(lambda: self.context if self.leads else None, TokenReviewer(self.cluster))
        self.http: TestClient[Any, Any] = TestClient(TestServer(app))

    async def post(self, content: bytes | object, headers: dict[str, str] | None = None) -> tuple[int, str]:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        async with self.http.post(PROGRESS_PATH, data=data, headers=TOKEN if headers is None else headers) as response:
            return response.status, await response.text()

    def kept(self) -> tuple[ProgressReport, ...]:
        return self.context.progress.of("u-1", 1, "train")


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    made = Endpoint()
    async with made.http:
        yield made


async def test_a_report_is_kept(endpoint: Endpoint) -> None:
    assert (await endpoint.post(REPORT))[0] == 202
    assert endpoint.kept()[0].metrics == {"loss": 0.5}


@pytest.mark.case("non-finite-numbers")
@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"metrics": {"loss": float("nan")}}, "metrics.loss"),
        ({"metrics": {"loss": float("inf")}}, "metrics.loss"),
        ({"metrics": {"loss": "NaN"}}, "metrics.loss"),
        ({"metrics": {str(n): n for n in range(65)}}, "metrics"),
        ({"metrics": {"x" * 64: 1}}, "metrics.xxx"),
        ({"done": 2**60}, "done"),
        ({"done": 10**400}, "done"),
        ({"total": -1}, "total"),
        ({"shards": 2**40}, "shards"),
        ({"shard": 4, "shards": 4}, "shard 4 is none of 4"),
        ({"unit": "x" * 300}, "unit"),
        ({"target": TARGET | {"kind": "Pod"}}, "target.kind"),
        ({"target": TARGET | {"uid": 3}}, "target.uid"),
        ({"extra": 1}, "extra"),
    ],
)
async def test_what_cannot_go_into_a_status_is_refused_by_name(
    endpoint: Endpoint, change: dict[str, Any], field: str
) -> None:
    status, said = await endpoint.post(REPORT | change)
    assert status == 400
    assert field in said
    assert endpoint.kept() == ()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 10_000,
        b'{"done": "\\ud83d"}',
        b'{"\\ud83d": 1}',
        gzip.compress(b"{}", mtime=0),
    ],
)
async def test_what_is_no_report_is_refused(endpoint: Endpoint, content: bytes) -> None:
    status, said = await endpoint.post(content)
    assert (status, said.startswith("not a progress report: ")) == (400, True)


@pytest.mark.case("large-body")
@pytest.mark.bad_input
async def test_reports_have_a_size(endpoint: Endpoint) -> None:
    assert (await endpoint.post(b" " * 20_000))[0] == 413
    bomb = gzip.compress(b" " * 10_000_000)
    assert (await endpoint.post(bomb, TOKEN | {"Content-Encoding": "gzip"}))[0] == 413


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Basic x"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer \u00ff\u20ac"}, 401),
        ({"Authorization": "Bearer other"}, 403),
        ({"Authorization": "bearer of-team"}, 202),
    ],
)
async def test_only_the_namespaces_own_token_is_taken(endpoint: Endpoint, headers: dict[str, str], status: int) -> None:
    assert (await endpoint.post(REPORT, headers))[0] == status


async def test_an_api_server_that_is_away_is_said_with_when_to_come_back(endpoint: Endpoint) -> None:
    endpoint.cluster.away = True
    async with endpoint.http.post(PROGRESS_PATH, json=REPORT, headers=TOKEN) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")


@pytest.mark.parametrize("path", [PROGRESS_PATH, ONLINE_PATH])
async def test_a_replica_that_stands_by_keeps_nothing_and_lets_another_be_found(endpoint: Endpoint, path: str) -> None:
    endpoint.leads = False
    async with endpoint.http.post(path, json=REPORT, headers=TOKEN) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert response.headers["Connection"] == "close"
    assert endpoint.kept() == ()
    endpoint.leads = True
    assert (await endpoint.post(REPORT))[0] == 202


async def test_other_methods_and_paths_are_refused(endpoint: Endpoint) -> None:
    async with endpoint.http.get(PROGRESS_PATH) as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")
    async with endpoint.http.post("/v1/other") as response:
        assert response.status == 404


def test_the_board_is_bounded() -> None:
    board = ProgressBoard()
    for number in range(MAX_RESOURCES + 5):
        board.report(ProgressReport.model_validate(REPORT | {"target": TARGET | {"uid": str(number)}}))
    assert board.of("0", 1, "train") == ()
    assert len(board.of(str(MAX_RESOURCES + 4), 1, "train")) == 1


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.fuzz
@given(st.dictionaries(st.sampled_from([*REPORT, "shard", "shards", "x"]), VALUE) | st.just({}), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_no_body_is_an_error_of_the_operators(endpoint: Endpoint, change: dict[str, Any], whole: bool) -> None:
    status, _ = await endpoint.post((REPORT if whole else {}) | change)
    assert status in (202, 400)


ONLINE: dict[str, Any] = {
    "target": {"url": "http://operator/v1/online", "namespace": "team", "name": "live", "uid": "u-1"},
    "instance": "pod-1",
    "revisions": {"r1": {"recommendations": 10, "chosen": 4, "hits1": 1, "hits3": 2, "hits5": 4}},
}


async def online(endpoint: Endpoint, content: object, headers: dict[str, str] | None = None) -> tuple[int, str]:
    sent = TOKEN if headers is None else headers
    async with endpoint.http.post(ONLINE_PATH, data=json.dumps(content).encode(), headers=sent) as response:
        return response.status, await response.text()


async def test_a_gateways_counts_are_kept_for_its_own_namespace_alone(endpoint: Endpoint) -> None:
    endpoint.context.online = OnlineBoard(0.0)
    assert (await online(endpoint, ONLINE))[0] == 202
    sums = endpoint.context.online.sums("team", "live", "u-1", time.time())
    assert sums is not None
    assert sums["r1"].chosen == 4
    assert (await online(endpoint, ONLINE, {}))[0] == 401
    assert (await online(endpoint, ONLINE, {"Authorization": "Bearer of-nobody"}))[0] == 403
    other = {**ONLINE, "target": {**ONLINE["target"], "namespace": "others"}}
    assert (await online(endpoint, other))[0] == 403
    assert endpoint.context.online.sums("others", "live", "u-1", time.time()) is None


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("revisions", "field"),
    [
        ({"r1": {"chosen": -1}}, "revisions.r1.chosen"),
        ({"r1": {"chosen": 1.5}}, "revisions.r1.chosen"),
        ({"r1": {"chosen": float("nan")}}, "revisions.r1.chosen"),
        ({"r1": {"hits1": 3, "chosen": 2}}, "revisions.r1"),
        ({"r" * 64: {}}, "revisions"),
        ({f"r{n}": {} for n in range(9)}, "revisions"),
    ],
)
async def test_counts_that_cannot_be_are_refused(endpoint: Endpoint, revisions: object, field: str) -> None:
    status, text = await online(endpoint, {**ONLINE, "revisions": revisions})
    assert status == 400
    assert text.startswith(f"not a report of online figures: {field}")
