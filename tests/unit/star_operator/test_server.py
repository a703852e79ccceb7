"""The progress endpoint: reports are taken from the resource's namespace, and nothing that is sent can do harm."""

import asyncio
import contextlib
import gzip
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientError
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from star_contracts.online import ONLINE_PATH
from star_contracts.progress import PROGRESS_PATH
from star_operator.core.errors import Retryable
from star_operator.core.online import OnlineBoard
from star_operator.core.progress import Place, Reported
from star_operator.core.queue import WorkQueue
from star_operator.kube.resources import STAR_TYPES
from star_operator.kube.tokens import TokenReviewer
from star_operator.reconcilers.context import Context
from star_operator.server import EACH_ADDRESS, EACH_TOKEN, Door, progress_app
from tests.support.fakecluster import FakeCluster
from tests.support.goldens import settings as operator_settings
from tests.support.tokens import FOR_EVER, service_account_token

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
OF_TEAM = service_account_token("team")
TOKEN = {"Authorization": f"Bearer {OF_TEAM}"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Reviewed(FakeCluster):
    """Knows one token; answers not at all while it is away."""

    away = False
    reviews = 0

    async def create(self, obj: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        self.reviews += 1
        if self.away:
            raise Retryable("ApiServerUnreachable", "away")
        known = obj["spec"]["token"] == OF_TEAM
        user = {"username": "system:serviceaccount:team:star-job"} if known else {}
        return {"status": {"authenticated": known, "user": user}}


class Endpoint:
    """The endpoint and what it keeps."""

    def __init__(self) -> None:
        self.cluster = Reviewed()
        self.context = Context(self.cluster, operator_settings(), WorkQueue(time.monotonic))
        self.leads = True
        self.time = 0.0
        self.door = Door(TokenReviewer(self.cluster), clock=self.clock)
        self.http: TestClient[Any, Any] = TestClient(
            TestServer(progress_app(lambda: self.context if self.leads else None, self.door))
        )

    def clock(self) -> float:
        return self.time

    async def post(self, content: bytes | object, headers: dict[str, str] | None = None) -> tuple[int, str]:
        self.time += 1
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        async with self.http.post(PROGRESS_PATH, data=data, headers=TOKEN if headers is None else headers) as response:
            return response.status, await response.text()

    def kept(self) -> Reported | None:
        return self.context.progress.of(Place("SFTJob", "team", "sft", "u-1"), 1, "train")


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    made = Endpoint()
    async with made.http:
        yield made


async def test_a_report_is_kept(endpoint: Endpoint) -> None:
    assert (await endpoint.post(REPORT))[0] == 202
    kept = endpoint.kept()
    assert kept is not None
    assert (kept.counts, kept.metrics) == ({0: (3, 10)}, {"loss": 0.5})


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
        ({"target": TARGET | {"kind": "StarDeployment"}}, "target.kind"),
        ({"target": TARGET | {"name": "../../other/sftjobs/sft"}}, "target.name"),
        ({"target": TARGET | {"name": "sft?limit=1"}}, "target.name"),
        ({"target": TARGET | {"name": "sft\n"}}, "target.name"),
        ({"target": TARGET | {"name": ".."}}, "target.name"),
        ({"target": TARGET | {"namespace": "team/../other"}}, "target.namespace"),
        ({"target": TARGET | {"step": "train/x"}}, "target.step"),
        ({"target": TARGET | {"uid": "u" * 65}}, "target.uid"),
        ({"unit": "x" * 64}, "unit"),
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
    assert endpoint.kept() is None


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


OTHER = service_account_token("other")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("headers", "status", "reviews"),
    [
        ({}, 401, 0),
        ({"Authorization": "Basic x"}, 401, 0),
        ({"Authorization": "Bearer "}, 401, 0),
        ({"Authorization": "Bearer \u00ff\u20ac"}, 401, 0),
        (bearer("nonsense"), 401, 0),
        (bearer("a.b.c"), 401, 0),
        (bearer(service_account_token(aud=["https://kubernetes.default.svc"])), 401, 0),
        (bearer(service_account_token(exp=5)), 401, 0),
        (bearer(service_account_token(nbf=FOR_EVER)), 401, 0),
        (bearer(service_account_token(sub="system:admin")), 401, 0),
        (bearer(OTHER), 403, 0),
        (bearer(service_account_token(jti="forged")), 401, 1),
        ({"Authorization": f"bearer {OF_TEAM}"}, 202, 1),
    ],
)
async def test_only_the_namespaces_own_token_is_taken_and_what_cannot_be_it_costs_no_review(
    endpoint: Endpoint, headers: dict[str, str], status: int, reviews: int
) -> None:
    for _ in range(2):
        assert (await endpoint.post(REPORT, headers))[0] == status
        assert endpoint.cluster.reviews == reviews, "an answer is remembered, yes and no"


@pytest.mark.bad_input
async def test_a_body_that_is_none_costs_no_review(endpoint: Endpoint) -> None:
    assert (await endpoint.post(b"{}"))[0] == 400
    assert (await endpoint.post(REPORT | {"done": -1}))[0] == 400
    assert endpoint.cluster.reviews == 0


async def test_a_pod_that_reports_without_end_is_put_off_and_others_are_not(endpoint: Endpoint) -> None:
    answers = []
    for _ in range(100):
        async with endpoint.http.post(PROGRESS_PATH, json=REPORT, headers=TOKEN) as response:
            answers.append(response.status)
            if response.status == 429:
                assert response.headers["Retry-After"] == "1"
    assert answers.count(202) == 1 + EACH_TOKEN.burst
    endpoint.time += 10
    assert (await endpoint.post(REPORT))[0] == 202


async def test_forged_tokens_without_end_are_put_off_by_where_they_come_from(endpoint: Endpoint) -> None:
    answers = []
    for n in range(int(EACH_ADDRESS.burst) + 50):
        headers = bearer(service_account_token("team", jti=str(n)))
        async with endpoint.http.post(PROGRESS_PATH, json=REPORT, headers=headers) as response:
            answers.append(response.status)
    assert endpoint.cluster.reviews == answers.count(401) == EACH_ADDRESS.burst
    assert answers.count(429) == 50


async def test_a_body_that_does_not_come_is_not_waited_for(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_operator.server.BODY_SECONDS", 0.05)

    async def slowly() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    with contextlib.suppress(ClientError):
        async with asyncio.timeout(20), endpoint.http.post(PROGRESS_PATH, data=slowly(), headers=TOKEN) as response:
            assert response.status == 408


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
    assert endpoint.kept() is None
    endpoint.leads = True
    assert (await endpoint.post(REPORT))[0] == 202


async def test_other_methods_and_paths_are_refused(endpoint: Endpoint) -> None:
    async with endpoint.http.get(PROGRESS_PATH) as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")
    async with endpoint.http.post("/v1/other") as response:
        assert response.status == 404


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


TARGETS = st.fixed_dictionaries(
    {}, optional={key: VALUE | st.text(max_size=300) | st.just("../..") for key in (*TARGET, "x")}
)


@pytest.mark.fuzz
@pytest.mark.bad_input
@given(TARGETS, st.sampled_from([PROGRESS_PATH, ONLINE_PATH]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_whatever_is_taken_is_of_the_tokens_namespace_and_has_a_name(
    endpoint: Endpoint, change: dict[str, Any], path: str
) -> None:
    whole = REPORT if path == PROGRESS_PATH else ONLINE
    content = {**whole, "target": {**whole["target"], **change}}
    endpoint.time += 1
    async with endpoint.http.post(path, data=json.dumps(content).encode(), headers=TOKEN) as response:
        assert response.status in (202, 400, 403)
        if response.status == 202:
            target = content["target"]
            assert target["namespace"] == "team"
            assert STAR_TYPES["SFTJob"].path("team", target["name"]).split("/")[-1] == target["name"]


@pytest.mark.fuzz
@pytest.mark.bad_input
@given(
    st.binary(max_size=200)
    | st.recursive(VALUE, lambda v: st.lists(v, max_size=3)).map(lambda v: json.dumps(v).encode())
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_no_bytes_are_an_error_of_the_operators(endpoint: Endpoint, content: bytes) -> None:
    for path in (PROGRESS_PATH, ONLINE_PATH):
        endpoint.time += 1
        async with endpoint.http.post(path, data=content, headers=TOKEN) as response:
            assert response.status == 400


ONLINE: dict[str, Any] = {
    "target": {"url": "http://operator/v1/online", "namespace": "team", "name": "live", "uid": "u-1"},
    "instance": "pod-1",
    "revisions": {"r1": {"recommendations": 10, "chosen": 4, "hits1": 1, "hits3": 2, "hits5": 4}},
}


async def online(endpoint: Endpoint, content: object, headers: dict[str, str] | None = None) -> tuple[int, str]:
    sent = TOKEN if headers is None else headers
    endpoint.time += 1
    async with endpoint.http.post(ONLINE_PATH, data=json.dumps(content).encode(), headers=sent) as response:
        return response.status, await response.text()


async def test_a_gateways_counts_are_kept_for_its_own_namespace_alone(endpoint: Endpoint) -> None:
    endpoint.context.online = OnlineBoard(0.0)
    assert (await online(endpoint, ONLINE))[0] == 202
    sums = endpoint.context.online.sums("team", "live", "u-1", time.time())
    assert sums is not None
    assert sums["r1"].chosen == 4
    assert (await online(endpoint, ONLINE, {}))[0] == 401
    assert (await online(endpoint, ONLINE, bearer(OTHER)))[0] == 403
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
