"""Status: what is remembered is read back, and the whole of it stays far below what etcd takes."""

import json
import re
from typing import Any

from star_operator.api.crd import crd
from star_operator.api.retrainschedule import (
    MAX_MESSAGE,
    MAX_OWED,
    MAX_RUNS,
    MAX_TENANTS,
    RetrainSchedule,
    RetrainScheduleStatus,
    RunRecord,
    TenantStatus,
)
from star_operator.policy.schedule.rows import remembered, rows
from star_operator.policy.schedule.types import Memory, Remembered, Run
from tests.support.schedules import TICK, known, look, spec, tenants

ETCD = 1_500_000
"""Bytes of an object that etcd takes at most (--max-request-bytes, 1.5 MiB by default)."""


def test_what_is_remembered_is_read_back() -> None:
    some = tenants(3)
    memory = Memory(
        {
            "team-0": Remembered(TICK - 5, since=TICK - 4),
            "team-1": Remembered(TICK, asked=TICK - 3, owed=(TICK - 200, TICK - 100)),
            "team-2": Remembered(TICK - 9),
        },
        next_look=TICK,
        down=(TICK - 70, TICK - 7),
    )
    decision = look(spec(maxConcurrentRuns=1), some, memory=memory, runs=[Run("x", "x", TICK - 1, 0)])
    status = rows(RetrainScheduleStatus(), decision, some, [], {})
    again = remembered(RetrainScheduleStatus.model_validate(status.to_json_dict()))
    assert again == decision.memory


def test_the_fullest_status_is_below_what_etcd_takes() -> None:
    time = "2026-06-01T00:00:00Z"
    row = TenantStatus(
        reason="R" * 32, message="m" * MAX_MESSAGE, run="r" * 63, gpus=10**5, decided=time, waiting_since=time,
        asked=time, owed=(time,) * MAX_OWED, under_since=time, namespace="",
    )  # fmt: skip
    full = [row.model_copy(update={"namespace": f"{n:063d}"}) for n in range(MAX_TENANTS)]
    record = RunRecord(namespace="", tick=time, uid="u" * 36, gpus=10**5, since=time, set_aside=True)
    runs = [record.model_copy(update={"namespace": f"{n % MAX_TENANTS:063d}"}) for n in range(MAX_RUNS)]
    status = RetrainScheduleStatus(tenants=tuple(full), runs=tuple(runs)).to_json_dict()
    owners = {
        "f:tenants": {
            f'k:{{"namespace":"{one["namespace"]}"}}': {".": {}} | {f"f:{name}": {} for name in one}
            for one in status["tenants"]
        }
    }
    size = len(json.dumps(status, separators=(",", ":"))) + len(json.dumps(owners, separators=(",", ":")))
    assert size < 0.95 * ETCD


def test_the_template_is_described_where_pipelines_are() -> None:
    version = crd(RetrainSchedule)["spec"]["versions"][0]
    pipeline: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["pipeline"]
    assert "kubectl explain starpipeline.spec" in pipeline["description"]
    inner = re.findall(r'"description": "(\w+)', json.dumps(pipeline["properties"]))
    assert set(inner) <= {"Default"}, "those of lists, which the API server does not fill in"
    assert not {"series", "suspend", "cancel"} & set(pipeline["properties"])
    assert len(json.dumps(crd(RetrainSchedule))) < 250_000


def test_a_tenant_that_was_never_due_says_nothing() -> None:
    some = tenants(1)
    decision = look(spec(), some, memory=known(some, TICK), now=TICK + 1)
    [row] = rows(RetrainScheduleStatus(), decision, some, [], {}).tenants
    assert (row.phase, row.reason) == ("Pending", "")
