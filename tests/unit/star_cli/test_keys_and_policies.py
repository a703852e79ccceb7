"""`starctl gateway-key` and `starctl store-policy`."""

import base64
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from star_cli.errors import StarctlError
from star_cli.gatewaykey import gateway_key
from star_cli.main import app
from star_cli.storepolicy import prefix_of, tenant_of
from star_contracts.storepolicy import StoreRole

UID = "0a1b2c3d-0000-0000-0000-000000000001"
PLACE = "/apis/star.recsys.dev/v1alpha1/namespaces/team/stardeployments/star"


class Api:
    """Objects by path."""

    def __init__(self, gateway: dict[str, Any], secrets: dict[str, dict[str, str]]) -> None:
        spec = {"checkpoint": {"checkpoint": "c"}, "dataset": {"name": "d"}, "gateway": gateway}
        meta = {"name": "star", "namespace": "team", "uid": UID}
        self.found: dict[str, Any] = {PLACE: {"apiVersion": "x", "metadata": meta, "spec": spec}}
        for name, data in secrets.items():
            encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
            self.found[f"/api/v1/namespaces/team/secrets/{name}"] = {"data": encoded}

    def get(self, path: str) -> dict[str, Any] | None:
        return self.found.get(path)


def test_the_operators_key_is_shown() -> None:
    api = Api({}, {"star-star-keys-0a1b2c3d": {"gateway": "made", "server": "other"}})
    assert gateway_key(api, "team", "star") == "made"


def test_of_keys_that_were_given_the_first() -> None:
    given = {"apiKeys": {"name": "keys", "key": "all"}}
    assert gateway_key(Api(given, {"keys": {"all": "\ufeff# shop\n\n first \nsecond"}}), "team", "star") == "first"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("gateway", "secrets", "says"),
    [
        ({"open": True}, {}, "wants no key"),
        ({}, {}, "no Secret star-star-keys-0a1b2c3d; the operator makes it"),
        ({"apiKeys": {"name": "keys"}}, {"keys": {"other": "x"}}, "Secret keys in namespace team has no key apiKey"),
        ({"apiKeys": {"name": "keys"}}, {"keys": {"apiKey": "# none\n"}}, "or an empty one"),
    ],
)
def test_what_is_missing_is_named(gateway: dict[str, Any], secrets: dict[str, dict[str, str]], says: str) -> None:
    with pytest.raises(StarctlError, match=says):
        gateway_key(Api(gateway, secrets), "team", "star")


def test_a_deployment_that_is_not_there_is_named() -> None:
    with pytest.raises(StarctlError, match="no StarDeployment other in namespace team"):
        gateway_key(Api({}, {}), "team", "other")


def policy(*arguments: str) -> Any:
    done = CliRunner().invoke(app, ["store-policy", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return json.loads(done.stdout)


def test_a_policy_for_an_identity() -> None:
    document = policy("team-a", "--store", "s3://bucket/star/", "--source", "s3://raw/team-a")
    assert {one["Resource"] for one in document["Statement"]} == {
        "arn:aws:s3:::bucket", "arn:aws:s3:::bucket/star/team-a/*", "arn:aws:s3:::raw", "arn:aws:s3:::raw/team-a/*"
    }  # fmt: skip
    assert not [one for one in document["Statement"] if "Principal" in one]


def test_a_policy_for_the_bucket() -> None:
    document = policy("team-a=a", "team-b=arn:aws:iam::1:role/b", "--store", "s3://bucket", "--role", "gateway")
    assert [one["Principal"] for one in document["Statement"]] == [
        {"AWS": [principal]} for principal in ("a", "arn:aws:iam::1:role/b") for _ in range(3)
    ]
    assert {action for one in document["Statement"] for action in one["Action"]} == {
        "s3:ListBucket", "s3:GetObject", "s3:PutObject"
    }  # fmt: skip


@pytest.mark.bad_input
@pytest.mark.parametrize("text", ["*", "team-*", "a/b", "..", "", "team=*", "Team", "a" * 64])
def test_what_would_be_more_than_one_namespace_is_refused(text: str) -> None:
    with pytest.raises(StarctlError):
        tenant_of(text, StoreRole.JOBS, ())


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "text", ["bucket", "s3://", "s3://b*cket/x", "s3://bucket/*", "s3://bucket/a b", "https://bucket"]
)
def test_what_is_no_prefix_is_refused(text: str) -> None:
    with pytest.raises(StarctlError):
        prefix_of(text, "--store")
