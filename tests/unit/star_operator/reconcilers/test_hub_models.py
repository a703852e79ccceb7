"""A hub's model is resolved to a commit when a run begins: its name may stand for another one tomorrow."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from star_cli.local.pki import CertificateAuthority
from star_operator.core.errors import Waiting
from star_operator.core.settings import Settings
from star_operator.hub import Hub
from star_operator.reconcilers import evaluation, sftjob
from tests.support import goldens
from tests.support.goldens import ARTIFACTS, settings
from tests.support.star import BASE_LLM, DATASET, star
from tests.support.stubs3 import Reply, Stub, stub_s3
from tests.unit.star_operator.reconcilers import conftest
from tests.unit.star_operator.reconcilers.conftest import World

ONE, TWO = "1" * 40, "2" * 40


def says(commit: str) -> Reply:
    return Reply(200, json.dumps({"id": "org/name", "sha": commit}), "application/json")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """A hub, and a cluster whose pods are to use it."""
    with stub_s3(says(ONE)) as stub:
        changed = settings()
        changed.pools["cpu"].env["HF_ENDPOINT"] = stub.url
        monkeypatch.setattr(conftest, "settings", lambda: changed)
        yield stub


def world(uri: str) -> World:
    """An SFTJob from a model of the hub, with all else it needs."""
    named = {"dataset": {"name": "d"}}
    others = (
        ("RecDataset", "d", DATASET, "dataset"),
        ("TeacherRun", "t", {**named, "llm": BASE_LLM, "agents": {"tools": False}}, "trajectories"),
    )
    done = [
        star(kind, conftest.NAMESPACE, name, spec)
        | {"status": {"phase": "Succeeded", "artifact": {**ARTIFACTS[role].to_json_dict(), "bytes": 1}}}
        for kind, name, spec, role in others
    ]
    spec = {"model": {"uri": uri}, "trajectories": {"name": "t"}}
    return World(sftjob.KIND, star("SFTJob", conftest.NAMESPACE, "x", spec), *done)


def job_of(world: World) -> dict[str, Any]:
    (config,) = world.cluster.of("ConfigMap")
    told: dict[str, Any] = json.loads(config["data"]["job.json"])
    return told


@pytest.mark.case("changed-source")
def test_a_run_works_with_the_commit_its_model_was_when_it_began(hub: Stub) -> None:
    run = world("hf://org/name")
    run.passes(1)
    assert run.status["models"] == {"model": f"org/name@{ONE}"}, "written down first"
    assert not run.cluster.of("Job")
    hub.replies = [says(TWO)]
    run.passes(2)
    assert job_of(run)["stage"]["model"] == {"hub": f"org/name@{ONE}"}
    assert run.status["models"] == {"model": f"org/name@{ONE}"}
    assert hub.asked == ["GET /api/models/org/name/revision/main HTTP/1.1"], "asked once"
    another = world("hf://org/name")
    another.passes(3)
    assert job_of(another)["producer"]["workHash"] != job_of(run)["producer"]["workHash"]


def test_a_run_that_began_with_a_name_goes_on_with_it(hub: Stub) -> None:
    """An operator of before resolved nothing: what was made is known by the name."""
    run = world("hf://org/name")
    run.passes(2)
    [resource] = run.cluster.of("SFTJob")
    del resource["status"]["models"]
    del resource["status"]["inputs"]
    hub.asked.clear()
    run.passes(2)
    assert "models" not in run.status or run.status["models"] == {"model": "org/name"}
    assert hub.asked == []


def test_a_hub_that_is_out_of_reach_says_the_same_each_time() -> None:
    changed = settings()
    changed.pools["cpu"].env["HF_ENDPOINT"] = "https://127.0.0.1:9"

    async def asked() -> str:
        with pytest.raises(Waiting) as waiting:
            await Hub(changed, changed.pools["cpu"].env).pin("org/name", "spec.model")
        return waiting.value.message

    first, second = asyncio.run(asked()), asyncio.run(asked())
    assert first == second
    assert "0x" not in first


def test_a_bundle_with_comments_in_any_language_is_trusted(tmp_path: Path) -> None:
    CertificateAuthority(tmp_path, "ca")
    bundle = f"# Főtanúsítvány\n{(tmp_path / 'ca.crt').read_text()}"
    trusted = Hub(settings().model_copy(update={"ca_bundle": bundle}), {})._trusted()
    assert trusted.cert_store_stats()["x509_ca"] == 1


def test_a_branch_or_tag_is_a_name_and_a_commit_is_not(hub: Stub) -> None:
    world("hf://org/name@v1.0").passes(1)
    assert hub.asked == ["GET /api/models/org/name/revision/v1.0 HTTP/1.1"]
    hub.asked.clear()
    run = world(f"hf://org/name@{TWO}")
    run.passes(2)
    assert job_of(run)["stage"]["model"] == {"hub": f"org/name@{TWO}"}
    assert hub.asked == []


@pytest.mark.bad_input
@pytest.mark.parametrize("status", [401, 404])
def test_a_model_that_is_not_there_fails_before_anything_starts(status: int, hub: Stub) -> None:
    hub.replies = [Reply(status, "{}", "application/json")]
    run = world("hf://org/name")
    run.passes(1)
    ready = next(one for one in run.status["conditions"] if one["type"] == "Ready")
    assert (run.status["phase"], ready["reason"]) == ("Failed", "ModelNotFound")
    assert "spec.model" in ready["message"]
    assert "has no org/name" in ready["message"]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "reply", [Reply(503, "busy"), Reply(200, "<html>"), Reply(200, "[]"), Reply(200, '{"sha": 1}')]
)
def test_a_hub_that_gives_no_answer_is_waited_for(reply: Reply, hub: Stub) -> None:
    hub.replies = [reply]
    run = world("hf://org/name")
    run.passes(1)
    ready = next(one for one in run.status["conditions"] if one["type"] == "Ready")
    assert (run.status["phase"], ready["reason"]) == ("Waiting", "HubUnreachable")
    assert "@<40 hex digits>" in ready["message"]
    hub.replies = [says(ONE)]
    run.passes(2)
    assert run.cluster.of("Job")


def test_a_served_model_is_asked_for_where_its_pods_run(hub: Stub) -> None:
    spec = {"dataset": {"name": "d"}, "llm": {"server": {"model": {"uri": "hf://org/name"}}}}
    dataset = star("RecDataset", conftest.NAMESPACE, "d", DATASET)
    dataset["status"] = {"phase": "Succeeded", "artifact": {**ARTIFACTS["dataset"].to_json_dict(), "bytes": 1}}
    spec["settings"] = {"tools": False, "variant": "WithoutTools"}
    run = World(evaluation.KIND, star("Evaluation", conftest.NAMESPACE, "x", spec), dataset)
    run.passes(2)
    assert run.status["models"] == {"llm": f"org/name@{ONE}"}
    assert job_of(run)["stage"]["llm"]["model"] == f"org/name@{ONE}"


async def test_the_hub_is_reached_through_the_proxy_and_with_the_pools_token() -> None:
    with stub_s3(says(ONE)) as proxy:
        through = Settings.model_validate(goldens.settings().model_dump() | {"proxy": {"http": proxy.url}})
        hub = Hub(through, {"HF_ENDPOINT": "http://hub.example", "HF_TOKEN": "t"})
        assert await hub.pin("org/name", "spec.model") == f"org/name@{ONE}"
        assert proxy.asked == ["GET http://hub.example/api/models/org/name/revision/main HTTP/1.1"]
        assert proxy.headers[0]["authorization"] == "Bearer t"
        inside = Hub(through, {"HF_ENDPOINT": proxy.url})
        await inside.pin("org/name", "spec.model")
        assert proxy.asked[-1] == "GET /api/models/org/name/revision/main HTTP/1.1", "not through the proxy"
