"""How a pod gets at its store: a private certificate authority, temporary keys, the role of its service account."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from star_cli.local.pki import CertificateAuthority, Subject
from star_contracts.errors import Reason
from star_contracts.job import Store
from star_jobs.errors import JobFailure, TerminalFailure
from star_jobs.storage import ObjectStore
from star_jobs.training.process import engine_environment
from tests.support.s3 import S3Server, start_s3
from tests.support.stubs3 import Reply, stub_s3

URI = "s3://star/x"
EXPIRES = "2100-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("ca"), "a private authority")


@pytest.fixture(scope="module")
def behind_tls(authority: CertificateAuthority) -> Iterator[S3Server]:
    """A real S3 server with a certificate of that authority."""
    pair = authority.issue("store", Subject("store", hosts=("127.0.0.1",)))
    with start_s3(certificate=(pair.certificate, pair.key)) as server:
        yield server


@pytest.fixture
def _keys(behind_tls: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in behind_tls.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def refused(store: Store) -> JobFailure:
    with pytest.raises(JobFailure) as failure:
        ObjectStore(store, attempts=1).find_bytes(URI)
    return failure.value


@pytest.mark.case("private-ca")
@pytest.mark.usefixtures("_keys")
def test_a_certificate_nobody_knows_is_spoken_of(behind_tls: S3Server) -> None:
    failure = refused(behind_tls.store())
    assert isinstance(failure, TerminalFailure)
    assert failure.reason is Reason.STORE_MISCONFIGURED
    assert "certificate" in failure.message
    assert "caBundle" in failure.message


@pytest.mark.case("private-ca")
@pytest.mark.usefixtures("_keys")
def test_with_its_authority_in_the_bundle_a_store_is_trusted(
    behind_tls: S3Server, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.pair.certificate))
    store = ObjectStore(behind_tls.store(), attempts=1)
    store.put_bytes(URI, b"1")
    assert store.get_bytes(URI) == b"1"
    by_another_name = behind_tls.endpoint.replace("127.0.0.1", "localhost")
    assert "by a name that its certificate has" in refused(Store(endpoint=by_another_name)).message


@pytest.mark.bad_input
@pytest.mark.usefixtures("_keys")
@pytest.mark.parametrize("content", [None, b"not PEM"])
def test_a_bundle_that_is_none(
    content: bytes | None, behind_tls: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "ca.crt").write_bytes(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.crt"))
    failure = refused(behind_tls.store())
    assert failure.reason is Reason.STORE_MISCONFIGURED
    assert "caBundle" in failure.message


@pytest.mark.bad_input
@pytest.mark.usefixtures("_keys")
def test_https_and_http_taken_for_each_other(s3_server: S3Server, behind_tls: S3Server) -> None:
    failure = refused(Store(endpoint=s3_server.endpoint.replace("http:", "https:")))
    assert (failure.reason, "write http://" in failure.message) == (Reason.STORE_MISCONFIGURED, True)
    assert "http or https?" in refused(Store(endpoint=behind_tls.endpoint.replace("https:", "http:"))).message


@pytest.mark.case("no-list-right")
def test_an_account_that_may_not_do_all_learns_what_it_lacks(
    s3_server: S3Server, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.account("s3:GetObject", "s3:PutObject").items():
        monkeypatch.setenv(name, value)
    store = ObjectStore(s3_server.store(), attempts=1)
    store.put_bytes(f"{uri}/x", b"1")
    assert store.get_bytes(f"{uri}/x") == b"1"
    with pytest.raises(TerminalFailure, match=r"right s3:ListBucket .AccessDenied: Access Denied"):
        list(store.list(uri))
    with pytest.raises(TerminalFailure, match="right s3:DeleteObject"):
        store.delete(f"{uri}/x")


@pytest.mark.case("session-token")
def test_the_token_of_temporary_keys_goes_with_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, f"made-up-{name}")
    with stub_s3(Reply(200)) as stub:
        ObjectStore(Store(endpoint=stub.url), attempts=1).put_bytes(URI, b"1")
    assert {headers["x-amz-security-token"] for headers in stub.headers} == {"made-up-AWS_SESSION_TOKEN"}


def assumed(access_key: str, secret_key: str) -> Reply:
    """The answer of STS to AssumeRoleWithWebIdentity."""
    keys = f"<AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>{secret_key}</SecretAccessKey>"
    keys += f"<SessionToken>a-token</SessionToken><Expiration>{EXPIRES}</Expiration>"
    result = f"<AssumeRoleWithWebIdentityResult><Credentials>{keys}</Credentials></AssumeRoleWithWebIdentityResult>"
    return Reply(200, f"<AssumeRoleWithWebIdentityResponse>{result}</AssumeRoleWithWebIdentityResponse>")


@pytest.fixture
def _role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a web identity webhook (EKS IRSA) puts into a pod, and no keys."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "token").write_text("a service account's token")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::000000000000:role/star")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.usefixtures("_role")
def test_a_pod_without_keys_takes_the_role_of_its_service_account(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stub_s3(assumed("the-roles-key", "its-secret")) as sts, stub_s3(Reply(200)) as s3:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        ObjectStore(Store(endpoint=s3.url), attempts=1).put_bytes(URI, b"1")
        # A real store is asked in the role's name, and does not know it.
        assert "InvalidToken" in refused(s3_server.store()).message
    (headers,) = s3.headers
    assert "Credential=the-roles-key/" in headers["authorization"]
    assert headers["x-amz-security-token"] == "a-token"


@pytest.mark.bad_input
@pytest.mark.usefixtures("_role")
def test_a_role_that_is_not_given(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Not authorized to perform sts:AssumeRoleWithWebIdentity"
    error = f"<Error><Type>Sender</Type><Code>AccessDenied</Code><Message>{said}</Message></Error>"
    with stub_s3(Reply(403, f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>")) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        failure = refused(s3_server.store())
    assert (failure.reason, said in failure.message) == (Reason.STORE_ACCESS_DENIED, True)
    assert "trust policy" in failure.message
    (tmp_path / "token").unlink()
    failure = refused(s3_server.store())
    assert (failure.reason, "AWS_WEB_IDENTITY_TOKEN_FILE" in failure.message) == (Reason.STORE_ACCESS_DENIED, True)


def test_no_engine_gets_what_the_store_is_reached_by() -> None:
    base = {"AWS_SESSION_TOKEN": "t", "AWS_ROLE_ARN": "r", "AWS_WEB_IDENTITY_TOKEN_FILE": "f", "KEPT": "1"}
    assert engine_environment(base, {}) == {"USER": "star", "KEPT": "1"}


def test_requests_are_signed_for_the_region_and_addressed_by_path(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "made-up")
    with stub_s3(Reply(200)) as stub:
        ObjectStore(Store(endpoint=stub.url, region="eu-west-1"), attempts=1).put_bytes(URI, b"1")
    assert stub.asked == ["PUT /star/x HTTP/1.1"]
    assert "/eu-west-1/s3/aws4_request" in stub.headers[0]["authorization"]
