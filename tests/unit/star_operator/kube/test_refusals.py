"""What the API server's answers become: who may mend them decides, and its sentence is always kept."""

import json

import pytest

from star_operator.core.errors import InvalidSpec, Refused, Retryable, StarError, Taken
from star_operator.kube.cluster import NotFound, _refusal

QUOTA = 'jobs.batch "d" is forbidden: exceeded quota: objects, requested: count/jobs.batch=1'
POLICY = 'admission webhook "policy.example.com" denied the request: images must come from our registry'
SILENT = 'Internal error occurred: failed calling webhook "policy.example.com": context deadline exceeded'


@pytest.mark.parametrize(
    ("status", "reason", "message", "expected"),
    [
        (403, "Forbidden", QUOTA, Refused),
        (403, "Forbidden", POLICY, Refused),
        (500, "InternalError", SILENT, Refused),
        (401, "Unauthorized", "Unauthorized", Retryable),
        (409, "Conflict", "the object has been modified", Retryable),
        (429, "TooManyRequests", "the server is busy", Retryable),
        (500, "InternalError", "etcdserver: request timed out", Retryable),
        (404, "NotFound", 'jobs.batch "d" not found', NotFound),
        (422, "Invalid", "spec.template: Invalid value: field is immutable", InvalidSpec),
        (400, "BadRequest", "unknown field", InvalidSpec),
    ],
)
def test_an_answer_becomes_an_error_of_the_operator(
    status: int, reason: str, message: str, expected: type[StarError]
) -> None:
    found = _refusal(status, json.dumps({"reason": reason, "message": message}), "PATCH", "/apis/batch/v1/jobs")
    assert type(found) is expected
    assert message in found.message


def test_what_differs_each_time_is_no_part_of_a_refusal() -> None:
    told = "failed calling webhook: read tcp 10.0.0.5:{}->10.1.2.3:443: connection reset"
    bodies = [json.dumps({"message": told.format(port)}) for port in (43210, 43211)]
    one, other = (_refusal(500, body, "PATCH", "/apis/batch/v1/jobs").message for body in bodies)
    assert one == other
    assert "10.0.0.5->10.1.2.3:443" in one


def test_fields_that_others_have_written_are_named_with_them() -> None:
    """The API server's answer to a server-side apply without force, as of 1.35."""
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{who}" using apps/v1', "field": field}
        for who, field in (("kubectl-edit", ".spec.template.spec.containers"), ("kubectl", ".spec.replicas"))
    ]
    message = "Apply failed with 2 conflicts"
    body = {"reason": "Conflict", "message": message, "details": {"causes": causes}}
    found = _refusal(409, json.dumps(body), "PATCH", "/apis/apps/v1/deployments/x")
    assert isinstance(found, Taken)
    assert found.fields == (".spec.replicas", ".spec.template.spec.containers")
    assert found.managers == ("kubectl", "kubectl-edit")
