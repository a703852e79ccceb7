"""Bad input that only shows at run time: it ends in a condition that says why, and no pod is left or tried for ever.

The pods' results are what the jobs answer to such input (tests marked `bad_input` under tests/unit/star_jobs); from
there on everything is real. All of them run side by side, as one operator has them.
"""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from star_contracts.job import JobSpec
from star_contracts.result import ErrorClass, JobError, JobResult
from tests.support.fakekubelet import FakeKubelet, succeed
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import OperatorProcess
from tests.support.star import DATASET, checkpoint, ready_message, star, status

LLM = {"endpoint": {"url": "http://llm.test/v1", "model": "m"}}
SFT = {"globalBatchSize": 2, "microBatchSize": 2, "sharding": "None"}
ON_D = {"dataset": {"name": "d"}, "retries": 1}
TEACHER = {**ON_D, "llm": LLM, "agents": {"tools": False}}
STORE = "the store at http://s3.test:7070"


@dataclass(frozen=True)
class Bad:
    """A resource that fails, and the error its job ends with."""

    kind: str
    spec: dict[str, Any]
    error_class: ErrorClass
    reason: str
    message: str

    @property
    def tries(self) -> int:
        """Attempts that are made: a terminal error is not tried again, and spec.retries is 1."""
        return 1 if self.error_class is ErrorClass.TERMINAL else 2

    @property
    def sentence(self) -> str:
        """What the condition says in the end."""
        return self.message + ("" if self.tries == 1 else " (gave up after 2 attempts; spec.retries is 1)")


BAD = {
    "unreachable-store": Bad(
        "RecDataset",
        {**DATASET, "retries": 1},
        ErrorClass.RETRYABLE,
        "StoreUnreachable",
        f"{STORE} does not answer; check that it runs and that store.connection names it",
    ),
    "wrong-credentials": Bad(
        "RecDataset",
        DATASET,
        ErrorClass.TERMINAL,
        "StoreAccessDenied",
        f"{STORE} refused the credentials of Secret star-store (InvalidAccessKeyId); correct the Secret",
    ),
    "flipped-byte": Bad(
        "SFTJob",
        {"model": {"checkpoint": "base"}, "trajectories": {"name": "t"}, "hyperparameters": SFT},
        ErrorClass.TERMINAL,
        "ArtifactCorrupted",
        "model.safetensors of s3://star/models/base does not have the sha256 of its manifest; store it anew",
    ),
    "truncated-dataset": Bad(
        "RecDataset",
        DATASET,
        ErrorClass.TERMINAL,
        "InvalidDataset",
        "spec.source.uri: line 99999 of u.data ends in the middle of a record; upload the file whole",
    ),
    "llm-down": Bad(
        "TeacherRun",
        TEACHER,
        ErrorClass.RETRYABLE,
        "LLMUnreachable",
        "spec.llm.endpoint: http://llm.test/v1 does not answer; check the URL and that the server runs",
    ),
    "garbage-from-the-model": Bad(
        "TeacherRun",
        TEACHER,
        ErrorClass.TERMINAL,
        "LLMOutputInvalid",
        "spec.llm: 200 of 200 answers of model m were no JSON of the schema; use a model that follows it",
    ),
    "nothing-kept": Bad(
        "TeacherRun",
        TEACHER,
        ErrorClass.TERMINAL,
        "NothingKept",
        "spec.filter: none of 200 trajectories ranks the true item first; raise spec.passes or use a better teacher",
    ),
}


@pytest.mark.bad_input
def test_bad_input_at_run_time_ends_in_a_condition_that_says_why(
    kubectl: Kubectl, operator: OperatorProcess, kubelet: FakeKubelet, namespace: str
) -> None:
    def script(spec: JobSpec, pod: dict[str, Any]) -> JobResult | str:
        if spec.producer.name not in BAD:
            return succeed(spec, pod)
        bad = BAD[spec.producer.name]
        return JobResult(error=JobError(error_class=bad.error_class, reason=bad.reason, message=bad.message))

    kubelet.script = script
    kubectl.apply(checkpoint(namespace), star("RecDataset", namespace, "d", DATASET))
    kubectl.apply(star("TeacherRun", namespace, "t", TEACHER))
    kubectl.apply(*(star(bad.kind, namespace, name, bad.spec) for name, bad in BAD.items()))

    def ended() -> bool:
        return all(status(kubectl, bad.kind, namespace, name).get("phase") == "Failed" for name, bad in BAD.items())

    eventually(ended, "all of them have failed", 240)
    for name, bad in BAD.items():
        found = status(kubectl, bad.kind, namespace, name)
        conditions = {condition["type"]: condition for condition in found["conditions"]}
        assert (conditions["Ready"]["reason"], conditions["Failed"]["status"]) == (bad.reason, "True"), name
        assert (ready_message(found), found["attempt"]) == (bad.sentence, bad.tries), name
    pods = json.loads(kubectl.run("get", "pods", "-n", namespace, "-o", "json"))["items"]
    assert {pod["status"]["phase"] for pod in pods} <= {"Failed", "Succeeded"}, "none is left running"
