"""Keys by which the pods of one run know each other: who has which, and that no text but a Secret shows one."""

import json

import pytest

from star_operator.builders.job import job_spec
from star_operator.builders.keys import server_keys, step_keys
from star_operator.builders.step import Owner, Step
from star_operator.core.keys import KeyRing
from star_operator.core.objects import KubeObject
from tests.support.goldens import CASES, children, resource, settings
from tests.support.plans import steps_of

RING = KeyRing(bytes(32))
OWNER = Owner("TeacherRun", "team", "run", "0a1b2c3d-0000-0000-0000-000000000001")


def files(spec: KubeObject) -> dict[str, tuple[str, str]]:
    """The keys that a pod gets as files: path -> Secret and key."""
    sources = [source for one in spec["volumes"] for source in one.get("projected", {}).get("sources", [])]
    secrets = [source["secret"] for source in sources if "secret" in source]
    return {item["path"]: (one["name"], item["key"]) for one in secrets for item in one["items"]}


def template(objects: list[KubeObject], name: str) -> KubeObject:
    [found] = [obj for obj in objects if obj["metadata"]["name"] == name and "template" in obj.get("spec", {})]
    spec: KubeObject = found["spec"]["template"]["spec"]
    return spec


def step(case: str, name: str) -> Step:
    return next(one for one in steps_of(resource(case)) if one.name == name)


def test_a_shared_server_and_its_users_arrive_at_one_key() -> None:
    generate = step("teacherrun-h20-two-nodes", "generate")
    [server] = generate.servers
    secret, own = step_keys(OWNER, generate, 1, RING), server_keys("team", server, RING)
    assert secret is not None
    assert secret["stringData"] == {server.name: own["stringData"]["server"]}
    assert len(own["stringData"]["server"]) == 64
    elsewhere = server_keys("other", server, RING)["stringData"]["server"]
    assert own["stringData"]["server"] not in (
        elsewhere,
        server_keys("team", server, KeyRing())["stringData"]["server"],
    )


def test_pods_get_the_keys_as_files_of_the_secret_that_is_made() -> None:
    cr = resource("teacherrun-h20-two-nodes")
    objects, generate = children(cr), step("teacherrun-h20-two-nodes", "generate")
    [server] = generate.servers
    owner = Owner(cr.kind, cr.metadata.namespace, cr.metadata.name, cr.metadata.uid)
    secret = step_keys(owner, generate, 1, RING)
    assert secret is not None
    assert files(template(objects, "deepseek-tr-1-generate")) == {
        f"keys/{server.name}": (secret["metadata"]["name"], server.name)
    }
    endpoint = json.loads(job_spec(owner, generate, 1, settings(), cr.spec).model_dump_json(by_alias=True))
    assert endpoint["stage"]["llm"]["apiKeyFile"] == f"/etc/star/keys/{server.name}"
    for name in (f"{server.name}-0", f"{server.name}-0-w"):
        assert files(template(objects, name)) == {"keys/server": (server.name, "server")}


def test_each_attempt_has_a_secret_of_its_own_and_so_has_who_comes_to_have_the_name() -> None:
    generate = step("teacherrun-h20-two-nodes", "generate")
    again = Owner(OWNER.kind, OWNER.namespace, OWNER.name, "ffffffff-0000-0000-0000-000000000001")
    made = [step_keys(*one, RING) for one in ((OWNER, generate, 1), (OWNER, generate, 2), (again, generate, 1))]
    assert len({one["metadata"]["name"] for one in made if one is not None}) == 3
    assert [one["metadata"]["ownerReferences"][0]["uid"] for one in made if one is not None] == [
        OWNER.uid, OWNER.uid, again.uid
    ]  # fmt: skip


def test_a_ray_cluster_of_several_nodes_has_a_token() -> None:
    train = step("grpojob-h20", "train")
    secret = step_keys(OWNER, train, 1, RING)
    assert secret is not None
    assert set(secret["stringData"]) == {"ray"}
    assert step_keys(OWNER, train, 2, RING)["stringData"] != secret["stringData"]  # type: ignore[index]
    spec = template(children(resource("grpojob-h20")), "qwen3-8b-grpo-1-train")
    assert files(spec).keys() == {"keys/ray"}
    env = {one["name"]: one.get("value") for one in spec["containers"][0]["env"]}
    assert (env["RAY_AUTH_MODE"], env["RAY_AUTH_TOKEN_PATH"]) == ("token", "/etc/star/keys/ray")


@pytest.mark.parametrize("case", ["recdataset", "sftjob-cpu", "sftjob-h20-group", "evaluation-baselines"])
def test_who_calls_no_server_has_no_secret(case: str) -> None:
    assert [step_keys(OWNER, one, 1, RING) for one in steps_of(resource(case))] == [None] * len(
        steps_of(resource(case))
    )


@pytest.mark.parametrize("case", CASES)
def test_no_key_stands_in_what_is_applied(case: str) -> None:
    cr = resource(case)
    text = json.dumps(children(cr))
    assert not [obj for obj in children(cr) if obj["kind"] == "Secret"]
    for one in steps_of(cr):
        for server in one.servers:
            assert KeyRing(bytes(32)).server(cr.metadata.namespace, server.name) not in text


def test_a_ring_shows_nothing() -> None:
    ring = KeyRing(b"\x01" * 32)
    assert "1" not in repr(ring).replace("KeyRing", "")
    assert repr(ring) == "KeyRing()"
