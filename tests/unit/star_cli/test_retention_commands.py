"""What `starctl gc`, `pin` and `unpin` say and write, on an API server in a dictionary."""

from typing import Any

import pytest
import yaml

from star_cli.errors import StarctlError
from star_cli.retention import annotate, listing
from star_operator.api.kinds import BY_KIND
from tests.support.goldens import settings
from tests.support.runs import run


class Api:
    """Lists and objects by path."""

    def __init__(self, bodies: list[dict[str, Any]], **retention: Any) -> None:
        self.found: dict[str, Any] = {}
        self.patches: list[tuple[str, Any]] = []
        for kind, model in BY_KIND.items():
            items = [{k: v for k, v in body.items() if k != "kind"} for body in bodies if body["kind"] == kind]
            path = f"/apis/star.recsys.dev/v1alpha1/namespaces/team/{model.INFO.plural}"
            self.found[path] = {"items": items}
            self.found |= {f"{path}/{item['metadata']['name']}": item for item in items}
        if retention:
            text = yaml.safe_dump({**settings().to_json_dict(), "retention": retention})
            found = {"items": [{"data": {"settings.yaml": text}}]}
            self.found["/api/v1/configmaps?labelSelector=app.kubernetes.io/name%3Dstar-operator"] = found

    def get(self, path: str) -> dict[str, Any] | None:
        return self.found.get(path)

    def merge(self, path: str, patch: Any) -> dict[str, Any]:
        self.patches.append((path, patch))
        return {}


def lines(*bodies: dict[str, Any], **retention: Any) -> list[str]:
    return list(listing(Api(list(bodies), **retention), "team").lines())


def test_it_lists_what_goes_and_why_the_rest_stays() -> None:
    said = lines(*run(1), *run(2, dataset=1), keepRuns=1, gracePeriodSeconds=7200)
    gone = [line for line in said if line.startswith("goes")]
    assert said[: len(gone)] == gone
    why = "the run r1 is let go, and nothing that is kept refers to it"
    assert f"goes   TeacherRun/r1-teacher: {why}; its artifact 2 h later" in gone
    assert f"goes   RecDataset/r1-dataset: {why}; its artifact stays" in gone
    assert "goes   StarPipeline/r1: 1 later runs of series weekly succeeded" in gone
    assert "stays  StarPipeline/r2: it is one of the last 1 runs of series weekly that succeeded" in said
    assert len(said) == len(run(1)) + len(run(2))


def test_it_says_by_whose_rules() -> None:
    assert lines(*run(1))[0] == "the operator's settings cannot be read: this is as the chart's defaults say"
    assert lines(*run(1), enabled=False)[0].startswith("retention.enabled is false")


def test_a_pin_is_an_annotation() -> None:
    api = Api(run(1))
    assert (
        annotate(api, "team", "ckpt/r1-grpo", "the paper")
        == "Checkpoint/r1-grpo is pinned: it stays, and what it refers to"
    )
    assert annotate(api, "team", "Checkpoint/r1-grpo", None) == "Checkpoint/r1-grpo is not pinned"
    path = "/apis/star.recsys.dev/v1alpha1/namespaces/team/checkpoints/r1-grpo"
    whys = ["the paper", None]
    assert api.patches == [(path, {"metadata": {"annotations": {"star.recsys.dev/pin": why}}}) for why in whys]


@pytest.mark.bad_input
@pytest.mark.parametrize("resource", ["pod/x", "checkpoint", "checkpoint/"])
def test_what_is_no_resource_of_ours(resource: str) -> None:
    with pytest.raises(StarctlError, match="write KIND/NAME"):
        annotate(Api([]), "team", resource, "x")


@pytest.mark.bad_input
def test_what_is_not_there() -> None:
    with pytest.raises(StarctlError, match="there is no Checkpoint none in namespace team"):
        annotate(Api([]), "team", "checkpoint/none", "x")
