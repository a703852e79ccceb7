"""What the API server's answers become: who may mend them decides, and its sentence is always kept."""

import json

import pytest

from star_operator.core.errors import InvalidSpec, Refused, Retryable, StarError
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
