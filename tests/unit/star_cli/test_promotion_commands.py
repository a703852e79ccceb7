"""What `starctl promote`, `approve`, `override`, `hold` and `release` write, on an API server in a dictionary."""

from typing import Any

import pytest

from star_cli import promotion as commands
from star_cli.errors import StarctlError
from star_operator.api.promotion import Promotion
from tests.support.promotions import DIGEST, NAMESPACE, OTHER, environment, promotion
from tests.support.star import checkpoint

ROOT = f"/apis/star.recsys.dev/v1alpha1/namespaces/{NAMESPACE}"
PLACES = {"Promotion": "promotions", "PromotionPolicy": "promotionpolicies", "Checkpoint": "checkpoints"}


class Api:
    """Objects by path; ann asks."""

    def __init__(self, *bodies: dict[str, Any]) -> None:
        self.found: dict[str, Any] = {}
        self.patches: list[Any] = []
        for body in bodies:
            body["metadata"].setdefault("resourceVersion", "7")
            self.found[f"{ROOT}/{PLACES[body['kind']]}/{body['metadata']['name']}"] = body

    def get(self, path: str) -> dict[str, Any] | None:
        return self.found.get(path)

    def merge(self, path: str, patch: Any) -> dict[str, Any]:
        assert path in self.found
        self.patches.append(patch)
        return {}

    def create(self, path: str, manifest: Any) -> dict[str, Any]:
        if path == commands.WHOAMI:
            return {"status": {"userInfo": {"username": "ann"}}}
        self.found[f"{path}/{manifest['metadata']['name']}"] = manifest
        return {}


def moving(**spec: Any) -> dict[str, Any]:
    return promotion(**spec) | {"status": {"digest": DIGEST}}


def test_a_promotion_is_made_as_the_policy_says() -> None:
    api = Api(environment(requires={"approvals": 1}), checkpoint(NAMESPACE, "new", DIGEST))
    said = commands.promote(api, NAMESPACE, "new", "prod", None)
    made = api.found[f"{ROOT}/promotions/prod-{DIGEST[7:19]}"]
    assert "moves new (sha256:aaaaaaaaaaaa) to prod" in said
    spec = Promotion.parse({**made, "kind": "Promotion"}).spec
    assert (spec.environment, spec.checkpoint.name, spec.checkpoint.digest) == ("prod", "new", DIGEST)
    assert spec.target.path == "prod/star.yaml"
    assert "requires" not in made["spec"]
    commands.promote(api, NAMESPACE, "new", "prod", None)
    assert f"{ROOT}/promotions/prod-{DIGEST[7:19]}-2" in api.found


def test_an_approval_is_ones_own_and_of_the_digest_that_moves() -> None:
    bobs = {"user": "bob", "digest": OTHER}
    api = Api(moving(approvals=[bobs, {"user": "ann", "digest": OTHER}]))
    assert commands.approve(api, NAMESPACE, "p", "good") == "ann approved sha256:aaaaaaaaaaaa in Promotion/p"
    mine = {"user": "ann", "digest": DIGEST, "comment": "good"}
    assert api.patches == [{"metadata": {"resourceVersion": "7"}, "spec": {"approvals": [bobs, mine]}}]
    commands.take_back(api, NAMESPACE, "p")
    assert api.patches[-1]["spec"] == {"approvals": [bobs]}


def test_an_override_bears_ones_name() -> None:
    api = Api(moving())
    commands.override(api, NAMESPACE, "p", "the shop is down")
    assert api.patches == [{"spec": {"override": {"user": "ann", "reason": "the shop is down"}}}]


def test_what_was_promoted_last_is_held_and_released() -> None:
    api = Api(environment() | {"status": {"standing": DIGEST}})
    commands.hold(api, NAMESPACE, "prod", "incident 7", None)
    commands.hold(api, NAMESPACE, "prod", "incident 7", OTHER)
    commands.release(api, NAMESPACE, "prod")
    held = [patch["spec"]["hold"] for patch in api.patches]
    assert held == [{"digest": one, "reason": "incident 7"} for one in (DIGEST, OTHER)] + [None]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda api: commands.promote(api, NAMESPACE, "new", "nowhere", None), "there is no PromotionPolicy nowhere"),
        (lambda api: commands.promote(api, NAMESPACE, "gone", "prod", None), "there is no Checkpoint gone"),
        (lambda api: commands.approve(api, NAMESPACE, "gone", None), "there is no Promotion gone"),
        (lambda api: commands.approve(api, NAMESPACE, "p", None), "Promotion p has no digest yet"),
        (lambda api: commands.hold(api, NAMESPACE, "prod", "x", None), "nothing was promoted to prod yet"),
    ],
)
def test_what_is_not_there_is_told(call: Any, says: str) -> None:
    with pytest.raises(StarctlError, match=says):
        call(Api(environment(), promotion()))
