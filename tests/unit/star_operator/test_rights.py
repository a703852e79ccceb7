"""The comparison of rights that are used with rights that are granted, which `make audit-rights` makes."""

import json
from typing import Any

import pytest

from tests.support import rights
from tests.support.rights import OPERATOR, ROOT, UNSEEN, Unseen, differences, granted, used


def event(verb: str, resource: str, code: int = 200, user: str = OPERATOR, **where: str) -> str:
    decision = "forbid" if code == 403 else "allow"
    said: dict[str, Any] = {
        "user": {"username": user},
        "verb": verb,
        "objectRef": {"resource": resource, **where},
        "responseStatus": {"code": code},
        "annotations": {"authorization.k8s.io/decision": decision},
    }
    return json.dumps(said)


def test_what_is_used_is_read_from_the_audit_log() -> None:
    lines = [
        event("patch", "jobs", 201, apiGroup="batch"),
        event("patch", "sftjobs", apiGroup="star.recsys.dev", subresource="status"),
        event("list", "pods", user="somebody"),
        event("list", "nodes", 403),
        json.dumps({"user": {"username": OPERATOR}, "verb": "get", "requestURI": "/apis"}),
    ]
    seen, refused = used(lines)
    assert seen == {
        ("batch", "jobs", "patch"), ("batch", "jobs", "create"), ("star.recsys.dev", "sftjobs/status", "patch")
    }  # fmt: skip
    assert refused == {("", "nodes", "list")}


def test_a_right_too_many_or_too_few_is_told() -> None:
    everything = granted()
    assert differences(everything, set()) == []
    told = differences(everything - {("batch", "jobs", "watch")}, {("", "nodes", "list")})
    assert told == ["granted, and not used in this run: watch jobs.batch", "asked for, and not granted: list nodes"]


def test_an_excuse_for_what_is_not_granted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stale = Unseen("", ("nodes",), ("list",), "", "", "")
    monkeypatch.setattr(rights, "UNSEEN", (*UNSEEN, stale))
    assert differences(granted(), set()) == ["excused in tests/support/rights.py, and not granted any more: list nodes"]


@pytest.mark.parametrize("one", UNSEEN, ids=lambda one: f"{one.group}-{one.resources[0]}-{one.verbs[0]}")
def test_what_a_run_need_not_use_is_used_by_the_code(one: Unseen) -> None:
    assert one.text in (ROOT / one.file).read_text(), one.why
