"""From a pipeline to production by commits alone, and back; the operator dies once at each step.

Git, the forge, Argo CD, the API server, the operator and the promotion's own program are real. Training, measuring and
serving are played, so that it takes minutes, and that one checkpoint is bad.
"""

from typing import Any

import pytest

from star_contracts.job import Evaluate, JobSpec
from star_contracts.result import JobResult
from tests.e2e_promotion.test_gitops import prepare
from tests.support.fakekubelet import FakeKubelet, succeed
from tests.support.gitops import ENVIRONMENTS, PROMOTIONS, Site, application
from tests.support.kubectl import Kubectl
from tests.support.operator import OperatorProcess
from tests.support.pipelines import SPEC
from tests.support.promoting import promote_here
from tests.support.star import checkpoint, star, wait_phase
from tests.support.way import Way

pytestmark = pytest.mark.timeout(1800)
FIRST = "sha256:" + "a" * 64
SOAK_SECONDS = 5
WAIT_SECONDS = 240


class Measured:
    """All goes well but what is measured of the checkpoints of pipelines that are bad."""

    def __init__(self) -> None:
        self.bad: set[str] = set()
        """Names of pipelines."""
        self._made: set[str] = set()
        """Digests of their checkpoints."""

    def __call__(self, spec: JobSpec, pod: dict[str, Any]) -> JobResult | str:
        found = succeed(spec, pod)
        if not isinstance(spec.stage, Evaluate):
            if found.artifact is not None and any(f"/{name}-grpo/" in spec.output for name in self.bad):
                self._made.add(found.artifact.digest)
            return found
        told = spec.model_dump_json()
        value = 0.1 if any(digest in told for digest in self._made) else 0.5
        return found.model_copy(update={"metrics": {"hrAvg": value, "valid": 1.0, "popular.hrAvg": 0.2}})


class Story(Way):
    """Who acts, and what is waited for."""

    def __init__(self, site: Site, kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet) -> None:
        super().__init__(site, WAIT_SECONDS)
        self.kubectl, self.operator = kubectl, operator
        self.measured = Measured()
        kubelet.script = self.measured
        kubelet.programs["promotion"] = promote_here

    def dies(self) -> None:
        """The operator is killed and started again."""
        self.operator.kill()
        self.operator.start()

    def begins(self) -> None:
        """Namespaces, credentials, and the layout with less patience; a first checkpoint by hand."""
        for namespace in (*ENVIRONMENTS.values(), PROMOTIONS):
            prepare(self.kubectl, namespace)
            wait_phase(self.kubectl, "Verbalization", namespace, "movielens-signals", "Succeeded")
        owner, authority = self.site.owner, self.site.forge.authority.read_text()
        secret = {"username": owner.name, "password": owner.token, "token": owner.token, "ca.crt": authority}
        metadata = {"name": "recommender-git", "namespace": PROMOTIONS}
        self.kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": secret})
        self.site.adapt("promotion/prod.yaml", _impatient)
        self.site.adapt("prod/traffic.yaml", lambda patch: patch["spec"].pop("rollout"))
        for environment in ENVIRONMENTS:
            self.site.pin(environment, "s3://star/recommender/first", FIRST)
        self.site.apply_applications(*ENVIRONMENTS, "promotion")
        for environment in ENVIRONMENTS:
            self.serves(environment, FIRST)

    def trains(self, name: str, rate: float, *, bad: bool = False) -> str:
        """A pipeline of the series makes a checkpoint; its digest."""
        template = SPEC["sft"]["template"]
        hyperparameters = {**template["hyperparameters"], "learningRate": rate}
        sft = {"template": {**template, "hyperparameters": hyperparameters}}
        self.kubectl.apply(checkpoint(PROMOTIONS))
        self.measured.bad |= {name} if bad else set()
        spec = {**SPEC, "sft": sft, "series": "recommender"}
        self.kubectl.apply(star("StarPipeline", PROMOTIONS, name, spec))
        status = wait_phase(self.kubectl, "StarPipeline", PROMOTIONS, name, "Succeeded")
        return str(status["checkpoint"]["digest"])


def _impatient(policy: Any) -> None:
    """Seconds for a day; and no report to verify, as there is no store in this test."""
    policy["spec"]["requires"] = {"soak": {"seconds": SOAK_SECONDS}}
    policy["spec"]["pollSeconds"] = 30


@pytest.mark.parametrize("server_side_diff", [False], ids=["three-way-diff"], indirect=True)
def test_from_a_pipeline_to_production_and_back(
    site: Site, kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet
) -> None:
    story = Story(site, kubectl, operator, kubelet)
    story.begins()

    good = story.trains("night-1", 1e-5)
    story.dies()
    commit = story.committed("dev", good)
    assert f"Star-From: {FIRST}" in commit["commit"]["message"]
    story.dies()
    story.serves("dev", good)
    story.dies()
    request = story.asked(good)
    assert "hrAvg" in request["body"]
    assert site.pinned("prod") == FIRST
    story.dies()
    story.merged(request["number"])
    story.committed("prod", good)
    story.dies()
    story.serves("prod", good)
    story.dies()

    bad = story.trains("night-2", 2e-5, bad=True)
    story.committed("dev", bad)
    story.dies()
    site.argocd.wait(application("dev"), health="Degraded", seconds=WAIT_SECONDS)
    assert (site.serving("dev"), site.serving("prod"), site.pinned("prod")) == (good, good, good)
    assert site.forge.pull_requests(site.owner, site.repository) == []

    better = story.trains("night-3", 3e-5)
    story.committed("dev", better)
    story.serves("dev", better)
    merge = story.merged(story.asked(better)["number"])
    story.serves("prod", better)
    site.revert(merge, merged=True)
    story.dies()
    story.serves("prod", good)
    assert site.pinned("prod") == good
