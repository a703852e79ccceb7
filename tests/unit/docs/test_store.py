"""docs/store.md: the policy has every right that pods use, and every reason of the store stands there."""

import json
import re
from pathlib import Path

import pytest

from star_contracts.errors import Reason
from star_contracts.storepolicy import Tenant, policy_document
from star_jobs.storage import faults

PAGE = (Path(__file__).parents[3] / "docs" / "store.md").read_text()


@pytest.mark.case("no-list-right")
def test_the_policy_has_every_right_that_pods_use() -> None:
    (policy,) = re.findall(r"```json\n(.*?)```", PAGE, re.S)
    allowed = {right for statement in json.loads(policy)["Statement"] for right in statement["Action"]}
    starctl = {"CreateBucket"}
    used = {right for operation, right in faults._RIGHTS.items() if operation not in starctl}
    assert allowed == used | {faults._WRITE}
    assert "docs/store.md" in faults.POLICY


def test_the_policy_is_the_one_that_is_printed() -> None:
    (policy,) = re.findall(r"```json\n(.*?)```", PAGE, re.S)
    assert json.loads(policy) == policy_document("s3://star", [Tenant("team-a")])


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason.value.startswith("Store")])
def test_a_reason_of_the_store_stands_in_its_table(reason: Reason) -> None:
    assert f"| `{reason.value}` |" in PAGE
