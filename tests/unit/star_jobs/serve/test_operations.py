"""What operators rely on: readiness, weights that change under load, failover, limits, keys, feedback, metrics."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from star_contracts.errors import Reason
from star_contracts.serving import Backend, GatewayConfig
from star_jobs.errors import RetryableFailure, TerminalFailure
from star_jobs.serve import feedback as feedback_module
from star_jobs.serve import gateway as gateway_module
from star_jobs.serve.catalogue import Catalogue
from star_jobs.storage import ObjectStore
from tests.support.fakebackend import CHECKPOINT, FakeBackend
from tests.support.s3 import S3Server, free_port
from tests.unit.star_jobs.serve.conftest import ASK, Running, Setup, eventually, open_world
from tests.unit.star_jobs.serve.test_recommend import problem


def down(revision: str, weight: int = 100) -> Backend:
    """A backend where nobody listens."""
    url = f"http://127.0.0.1:{free_port()}/v1"
    return Backend(revision=revision, checkpoint=CHECKPOINT, base_url=url, model="student", weight=weight)


async def test_ready_only_when_a_backend_really_generates(setup: Setup, fake: FakeBackend) -> None:
    fake.generates = False  # it lists its models all the same
    setup.write(fake.backend("a"))
    async with setup.running() as running:
        await eventually(lambda: running.gateway.catalogue is not None)
        await eventually(lambda: running.gateway.pool.handles[0].health.failures > 0)
        response = await running.http.get("/readyz")
        assert response.status_code == 503
        assert "no backend generates yet (a: " in response.json()["reason"]
        assert (await running.http.get("/healthz")).status_code == 200
        fake.generates = True
        await running.ready()
        assert (await running.http.get("/readyz")).json()["backends"][0]["up"] is True


async def test_backends_that_go_down_do_not_take_the_gateway_out_of_service(setup: Setup, fake: FakeBackend) -> None:
    setup.write(fake.backend("a"))
    async with setup.running() as running:
        await running.ready()
        fake.model, fake.generates = "other", False  # as one that is too busy for probes
        await eventually(lambda: not running.gateway.pool.handles[0].health.up)
        response = await running.http.get("/readyz")
        assert response.status_code == 200
        assert response.json()["backends"][0]["up"] is False
        assert (await running.ask()).status_code == 200, "it is asked all the same"
        fake.status = 503
        assert "Retry-After" in (await running.ask()).headers


async def test_not_ready_while_the_data_is_loading(setup: Setup, fake: FakeBackend) -> None:
    released = threading.Event()

    def slow(_config: GatewayConfig, folder: Path) -> Catalogue:
        released.wait(20)
        return open_world(folder)

    setup.write(fake.backend("a"))
    async with setup.running(slow) as running:
        await eventually(lambda: running.gateway.pool.has_generated)
        document = problem(await running.ask(), 503, "loading")
        assert "dataset is being loaded" in document["detail"]
        released.set()
        await running.ready()
        assert (await running.ask()).status_code == 200


@pytest.mark.bad_input
async def test_data_that_cannot_be_loaded_ends_the_process(setup: Setup, fake: FakeBackend) -> None:
    def missing(_config: GatewayConfig, _folder: Path) -> Catalogue:
        raise TerminalFailure(Reason.ARTIFACT_NOT_FOUND, "s3://star/d holds no manifest.json")

    setup.write(fake.backend("a"))
    async with setup.running(missing) as running:
        await eventually(lambda: running.gateway.fatal is not None)
        assert (await running.http.get("/readyz")).json()["reason"] == "s3://star/d holds no manifest.json"


async def test_a_store_that_is_away_is_waited_for(
    setup: Setup, fake: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "_LOAD_RETRY_SECONDS", 0.05)
    tries = 0

    def flaky(_config: GatewayConfig, folder: Path) -> Catalogue:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise RetryableFailure(Reason.STORE_UNREACHABLE, "the store does not answer")
        return open_world(folder)

    setup.write(fake.backend("a"))
    async with setup.running(flaky) as running:
        await running.ready()
        assert tries == 3
        assert running.gateway.fatal is None
        assert running.gateway.notes == {}


async def test_weights_change_under_load_and_no_request_fails(
    setup: Setup, fake: FakeBackend, other: FakeBackend
) -> None:
    fake.delay = other.delay = 0.01
    setup.write(fake.backend("old", 100), other.backend("new", 0))
    codes: Counter[int] = Counter()
    revisions: list[tuple[str, str]] = []
    stop = asyncio.Event()

    async with setup.running() as running:
        await running.ready()
        await eventually(lambda: all(handle.health.up for handle in running.gateway.pool.handles))

        async def load(worker: int) -> None:
            count = 0
            while not stop.is_set():
                user = f"user-{worker}-{count % 5}"
                response = await running.ask(user_id=user, history=[{"item_id": "i1"}])
                codes[response.status_code] += 1
                revisions.append((user, response.json().get("revision")))
                count += 1

        workers = [asyncio.create_task(load(worker)) for worker in range(8)]
        await eventually(lambda: len(revisions) > 24)
        assert {revision for _, revision in revisions} == {"old"}
        setup.write(fake.backend("old", 50), other.backend("new", 50))
        await eventually(lambda: "new" in {revision for _, revision in revisions}, seconds=5)
        setup.write(fake.backend("old", 0), other.backend("new", 100))
        await eventually(lambda: {revision for _, revision in revisions[-20:]} == {"new"}, seconds=10)
        setup.write(other.backend("new", 100))  # the old revision is gone altogether
        seen = len(revisions)
        await eventually(lambda: len(revisions) > seen + 24)
        stop.set()
        await asyncio.gather(*workers)
    assert set(codes) == {200}
    assert codes[200] > 60


async def test_a_user_stays_with_a_revision(setup: Setup, fake: FakeBackend, other: FakeBackend) -> None:
    setup.write(fake.backend("a", 50), other.backend("b", 50))
    async with setup.running() as running:
        await running.ready()
        await eventually(lambda: all(handle.health.up for handle in running.gateway.pool.handles))
        seen: dict[str, set[str]] = {}
        for user in [f"user-{n}" for n in range(6)] * 3:
            body = (await running.ask(user_id=user, history=[{"item_id": "i1"}])).json()
            seen.setdefault(user, set()).add(body["revision"])
    assert all(len(revisions) == 1 for revisions in seen.values())
    assert len({revision for revisions in seen.values() for revision in revisions}) == 2


async def test_a_backend_that_goes_down_fails_no_request(setup: Setup, fake: FakeBackend) -> None:
    setup.write(fake.backend("up", 1), down("down", 100))
    async with setup.running() as running:
        await running.ready()
        # Make the gateway believe in the dead one, as in the moment after it died.
        dead = next(handle for handle in running.gateway.pool.handles if handle.backend.revision == "down")
        dead.health = running.gateway.pool.handles[0].health
        answers = [(await running.ask(user_id=user)).json() for user in ("u1", "u2", "u3")]
        assert {answer["revision"] for answer in answers} == {"up"}
        text = (await running.http.get("/metrics")).text
    assert 'star_gateway_backend_failures_total{revision="down"}' in text
    assert 'star_gateway_backend_up{revision="down"} 0.0' in text


async def test_no_backend_is_a_503_that_names_it(setup: Setup) -> None:
    setup.write(down("gone"))
    async with setup.running() as running:
        await eventually(lambda: running.gateway.catalogue is not None)
        response = await running.ask()
    document = problem(response, 503, "backend-unreachable")
    assert "revision gone" in document["detail"]
    assert response.headers["retry-after"] == "5"


async def test_a_revision_can_be_tried_at_weight_zero(setup: Setup, fake: FakeBackend, other: FakeBackend) -> None:
    setup.write(fake.backend("a", 100), other.backend("candidate", 0))
    async with setup.running() as running:
        await running.ready()
        response = await running.http.post("/v1/recommend", json=ASK, headers={"x-star-revision": "candidate"})
        assert response.json()["revision"] == "candidate"
        response = await running.http.post("/v1/recommend", json=ASK, headers={"x-star-revision": "nope"})
        assert "there is: a, candidate" in problem(response, 404, "unknown-revision")["detail"]


async def test_a_deadline_is_kept_and_explained(setup: Setup, fake: FakeBackend) -> None:
    setup.write(fake.backend("a"), deadline_seconds=30)
    async with setup.running() as running:
        await running.ready()
        fake.delay = 20
        document = problem(await running.ask(deadline_seconds=0.2), 504, "deadline")
        assert "no answer within 0.2 s" in document["detail"]
        assert running.gateway.admission.in_flight == 0
        await eventually(lambda: fake.in_flight == 0)
    assert fake.aborted == 1


async def test_too_much_at_once_is_turned_away_at_once(setup: Setup, fake: FakeBackend) -> None:
    setup.write(fake.backend("a"), max_in_flight=2)
    async with setup.running() as running:
        await running.ready()
        fake.delay = 0.5
        admitted = [asyncio.create_task(running.ask()) for _ in range(2)]
        await eventually(lambda: running.gateway.admission.in_flight == 2)
        response = await running.ask()
        document = problem(response, 429, "too-many-requests")
        assert "the gateway takes 2" in document["detail"]
        assert int(response.headers["retry-after"]) >= 1
        problem(await running.chat(), 429, "too-many-requests")
        batch = await running.http.post("/v1/recommend:batch", json={"requests": [ASK]})
        problem(batch, 429, "too-many-requests")
        assert [(await task).status_code for task in admitted] == [200, 200]
        assert (await running.ask()).status_code == 200
        batch = await running.http.post("/v1/recommend:batch", json={"requests": [ASK] * 3})
        assert "at most 2" in problem(batch, 422, "too-many-requests-in-batch")["detail"]
        assert 'rejected_total{reason="saturated"} 3.0' in (await running.http.get("/metrics")).text


@pytest.mark.bad_input
async def test_without_a_good_key_nothing_is_answered(
    setup: Setup, fake: FakeBackend, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = setup.folder / "keys"
    keys.write_text("first-secret\n")
    setup.write(fake.backend("a"), api_keys_file=str(keys))
    async with setup.running() as running:
        await running.ready()
        problem(await running.ask(), 401, "unauthorized")
        assert (await running.http.get("/v1/models")).status_code == 401
        good = {"authorization": "Bearer first-secret"}
        assert (await running.http.post("/v1/recommend", json=ASK, headers=good)).status_code == 200
        assert [(await running.http.get(path)).status_code for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3

        before = running.gateway.keys
        keys.write_text("second-secret\n")
        await eventually(lambda: running.gateway.keys != before)
        response = await running.http.post("/v1/recommend", json=ASK, headers={"authorization": "Bearer second-secret"})
        assert response.status_code == 200
        assert (await running.http.post("/v1/recommend", json=ASK, headers=good)).status_code == 401
        metrics = (await running.http.get("/metrics")).text
    assert "secret" not in metrics
    assert "-secret" not in capsys.readouterr().out
    assert fake.requests
    assert all("authorization" not in json.dumps(request) for request in fake.requests)


@pytest.mark.bad_input
@pytest.mark.parametrize("content", ["{", '{"backends": []}', ""])
async def test_a_bad_configuration_keeps_the_present_one(running: Running, setup: Setup, content: str) -> None:
    setup.path.write_text(content)
    await eventually(lambda: "config" in running.gateway.notes)
    assert (await running.ask()).status_code == 200
    notes = (await running.http.get("/readyz")).json()["notes"]
    assert "the configuration before it stays in force" in notes["config"]
    assert 'reloads_total{result="refused"} 1.0' in (await running.http.get("/metrics")).text


async def test_other_data_is_loaded_without_a_break(setup: Setup, fake: FakeBackend) -> None:
    loads: list[str] = []

    def loader(config: GatewayConfig, folder: Path) -> Catalogue:
        loads.append(config.dataset.digest)
        return open_world(folder)

    setup.write(fake.backend("a"))
    async with setup.running(loader) as running:
        await running.ready()
        first = running.gateway.catalogue
        dataset = running.gateway.config.dataset.model_copy(update={"digest": "sha256:" + "e" * 64})
        setup.write(fake.backend("a"), dataset=dataset)
        await eventually(lambda: running.gateway.catalogue is not first)
        setup.write(fake.backend("a", 7), dataset=dataset)
        await eventually(lambda: running.gateway.config.backends[0].weight == 7)
        assert (await running.ask()).status_code == 200
    assert len(loads) == 2


FEEDBACK = {"request_id": "r1", "item_id": "i1", "event": "click", "user_id": "u1", "rank": 1}


async def test_feedback_is_counted_and_logged(running: Running) -> None:
    with capture_logs() as logged:
        response = await running.http.post("/v1/feedback", json=FEEDBACK)
    assert (response.status_code, response.json()) == (202, {"accepted": True, "durable": False})
    assert 'star_gateway_feedback_total{event="click"} 1.0' in (await running.http.get("/metrics")).text
    assert [line["feedback"]["request_id"] for line in logged if line["event"] == "feedback"] == ["r1"]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "field"),
    [({"item_id": "i99"}, "item_id"), ({"event": "stare"}, "event"), ({"rank": 0}, "rank"), ({"extra": 1}, "extra")],
)
async def test_bad_feedback_is_refused(running: Running, change: dict[str, object], field: str) -> None:
    response = await running.http.post("/v1/feedback", json=FEEDBACK | change)
    assert response.status_code == 422
    assert response.json()["field"] == field


async def test_feedback_is_kept_in_the_store_through_an_outage(
    setup: Setup,
    fake: FakeBackend,
    s3_server: S3Server,
    store: ObjectStore,
    uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feedback_module, "FLUSH_SECONDS", 0.05)
    setup.write(fake.backend("a"), store=s3_server.store(), feedback=f"{uri}/feedback")
    put: Callable[..., None] = ObjectStore.put_bytes
    failures = 0

    def fails_twice(self: ObjectStore, where: str, data: bytes) -> None:
        nonlocal failures
        failures += 1
        if failures <= 2:
            raise RetryableFailure(Reason.STORE_UNREACHABLE, "away")
        put(self, where, data)

    monkeypatch.setattr(ObjectStore, "put_bytes", fails_twice)
    async with setup.running() as running:
        for rank in range(1, 4):
            response = await running.http.post("/v1/feedback", json=FEEDBACK | {"rank": rank})
            assert response.json()["durable"] is True
        await eventually(lambda: failures >= 3)
        await running.http.post("/v1/feedback", json=FEEDBACK | {"rank": 4})
    kept = [
        json.loads(line)
        for stored in store.list(f"{uri}/feedback")
        for line in store.get_bytes(f"{uri}/feedback/{stored.path}").splitlines()
    ]
    assert {record["rank"] for record in kept} == {1, 2, 3, 4}


async def test_unknown_paths_and_methods_are_problems_too(running: Running) -> None:
    problem(await running.http.get("/v1/nothing"), 404, "no-such-endpoint")
    problem(await running.http.get("/v1/recommend"), 405, "no-such-endpoint")
    assert (await running.http.get("/openapi.json")).json()["info"]["title"] == "STAR gateway"


async def test_an_error_of_ours_is_a_500_without_its_insides(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("something private")

    monkeypatch.setattr(running.gateway, "recommender", broken)
    response = await running.http.post("/v1/recommend", json=ASK, headers={"x-request-id": "find-me"})
    document = problem(response, 500, "internal")
    assert "find-me" in document["detail"]
    assert "private" not in response.text


async def test_requests_are_counted_by_route_code_and_revision(running: Running) -> None:
    await running.ask()
    await running.ask(candidates=["x", "y"])
    await running.http.get("/strange/path")
    text = (await running.http.get("/metrics")).text
    assert 'requests_total{code="200",revision="rev-a",route="/v1/recommend"} 1.0' in text
    assert 'requests_total{code="422",revision="",route="/v1/recommend"} 1.0' in text
    assert 'requests_total{code="404",revision="",route="other"} 1.0' in text
    assert 'star_gateway_tool_calls_total{revision="rev-a",tool="User-CF"} 1.0' in text
    assert 'star_gateway_tokens_total{direction="prompt",revision="rev-a"} 20.0' in text
    assert 'star_gateway_backend_weight{revision="rev-a"} 100.0' in text
