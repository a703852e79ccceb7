"""What a store refuses: class, reason, the server's own sentence, and what to do. A stub gives the answers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from star_contracts.errors import Reason
from star_contracts.job import Store
from star_contracts.result import ErrorClass
from star_jobs.errors import JobFailure, RetryableFailure, TerminalFailure
from star_jobs.storage import ObjectStore, find_manifest
from star_jobs.storage.failures import failure_of, shown
from tests.support.jobs import environment
from tests.support.s3 import free_port
from tests.support.stubs3 import Reply, Stub, refusal, stub_s3

URI = "s3://star/out/a"
SECRET = "not-for-anybodys-eyes"
TOKEN = "nor-is-this-token"

Ask = Callable[[ObjectStore, Path], object]
ASKED: Mapping[str, Ask] = {
    "find_manifest": lambda store, _: find_manifest(store, URI),
    "find_bytes": lambda store, _: store.find_bytes(URI),
    "list": lambda store, _: list(store.list(URI)),
    "put_bytes": lambda store, _: store.put_bytes(URI, b"1"),
    "upload": lambda store, folder: store.upload(folder / "file", URI),
    "download": lambda store, folder: store.download(URI, folder / "copy"),
    "delete": lambda store, _: store.delete(URI),
}
ASK = pytest.mark.parametrize("name", ASKED)


@dataclass(frozen=True)
class Asker:
    """A store that answers as it is told, and its client: making one takes longer than all that is asked of it."""

    stub: Stub
    store: ObjectStore
    folder: Path

    def refused(self, name: str, *replies: Reply) -> JobFailure:
        """What becomes of a request that is answered so."""
        self.stub.replies = list(replies)
        with pytest.raises(JobFailure) as failure:
            ASKED[name](self.store, self.folder)
        message = failure.value.message
        assert message.startswith("could not "), message
        assert SECRET not in message
        assert TOKEN not in message
        return failure.value


@pytest.fixture(scope="module", autouse=True)
def _credentials() -> Iterator[None]:
    keys = {"AWS_ACCESS_KEY_ID": "ASIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
    with environment(keys):
        yield


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    folder = tmp_path_factory.mktemp("asker")
    (folder / "file").write_bytes(b"1")
    with stub_s3(Reply(200)) as stub:
        yield Asker(stub, ObjectStore(Store(endpoint=stub.url), attempts=1), folder)


@pytest.mark.case("clock-skew")
@ASK
def test_a_clock_that_is_wrong_is_retryable_and_spoken_of(name: str, asker: Asker) -> None:
    said = "The difference between the request time and the server's time is too large."
    failure = asker.refused(name, refusal("RequestTimeTooSkewed", said))
    assert isinstance(failure, RetryableFailure)
    assert failure.reason is Reason.STORE_CLOCK_SKEWED
    assert "clock" in failure.message
    assert said in failure.message


@pytest.mark.case("session-token")
@ASK
def test_expired_credentials_are_called_so(name: str, asker: Asker) -> None:
    failure = asker.refused(name, refusal("ExpiredToken", "The provided token has expired.", 400))
    assert failure.reason is Reason.STORE_CREDENTIALS_EXPIRED
    assert "credentials expired" in failure.message
    assert "The provided token has expired." in failure.message


@pytest.mark.case("session-token")
@ASK
def test_a_temporary_key_without_its_token_is_told_what_it_lacks(name: str, asker: Asker) -> None:
    said = "The key given does not exist without its session token."
    failure = asker.refused(name, refusal("InvalidAccessKeyId", said))
    assert isinstance(failure, TerminalFailure)
    assert failure.reason is Reason.STORE_ACCESS_DENIED
    assert said in failure.message
    assert "AWS_SESSION_TOKEN" in failure.message


@pytest.mark.case("no-list-right")
@pytest.mark.parametrize("name", ["find_manifest", "find_bytes", "download"])
def test_403_for_what_may_not_be_there_names_the_right(name: str, asker: Asker) -> None:
    failure = asker.refused(name, refusal("AccessDenied", "Access Denied"))
    assert isinstance(failure, TerminalFailure)
    assert failure.reason is Reason.STORE_ACCESS_DENIED
    assert "s3:ListBucket" in failure.message
    assert "s3:GetObject" in failure.message
    assert "Access Denied" in failure.message


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("list", "ListBucket"),
        ("put_bytes", "PutObject"),
        ("upload", "PutObject"),
        ("delete", "DeleteObject"),
    ],
)
def test_the_missing_right_is_that_of_the_request(name: str, right: str, asker: Asker) -> None:
    assert f"the right s3:{right}" in asker.refused(name, refusal("AccessDenied")).message


def test_the_server_knows_best_which_right_is_missing(asker: Asker) -> None:
    said = "User: arn:aws:iam::1:role/retention is not authorized to perform: kms:Decrypt on this resource"
    failure = asker.refused("find_bytes", refusal("AccessDenied", said))
    assert "the right kms:Decrypt" in failure.message
    assert said in failure.message


TERMINAL, RETRYABLE = ErrorClass.TERMINAL, ErrorClass.RETRYABLE
HTML = "<!doctype html><html><head><title>Log in</title><style>p{}</style></head><p>Please log in</html>"
ROWS: Mapping[str, tuple[Reply, ErrorClass, Reason, str]] = {
    "region": (
        refusal("AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong", 400, Region="eu-west-1"),
        TERMINAL,
        Reason.STORE_MISCONFIGURED,
        "the bucket is in eu-west-1",
    ),
    "redirect": (refusal("PermanentRedirect", status=301), TERMINAL, Reason.STORE_MISCONFIGURED, "connection.region"),
    "location": (
        refusal("IllegalLocationConstraintException", status=400),
        TERMINAL,
        Reason.STORE_MISCONFIGURED,
        "region",
    ),
    "bucket": (refusal("NoSuchBucket", status=404), TERMINAL, Reason.STORE_MISCONFIGURED, "no such bucket"),
    "lock": (
        refusal("AccessDenied", "Access Denied because object protected by object lock."),
        TERMINAL,
        Reason.STORE_REFUSED,
        "Object Lock",
    ),
    "worm": (
        refusal("InvalidRequest", "Object is WORM protected and cannot be overwritten", 400),
        TERMINAL,
        Reason.STORE_REFUSED,
        "Object Lock",
    ),
    "archive": (refusal("InvalidObjectState"), TERMINAL, Reason.STORE_REFUSED, "restore it"),
    "kms": (refusal("KMS.DisabledException", status=400), TERMINAL, Reason.STORE_REFUSED, "KMS key"),
    "size": (refusal("EntityTooLarge", status=400), TERMINAL, Reason.STORE_REFUSED, "of this size"),
    "method": (refusal("MethodNotAllowed", status=405), TERMINAL, Reason.STORE_REFUSED, "does not support"),
    "unsupported": (refusal("NotImplemented", status=501), TERMINAL, Reason.STORE_REFUSED, "does not support"),
    "unknown": (refusal("NeverHeardOf", "dear me", 400), TERMINAL, Reason.STORE_REFUSED, "dear me"),
    "signature": (refusal("SignatureDoesNotMatch"), TERMINAL, Reason.STORE_ACCESS_DENIED, "refused the credentials"),
    "token": (refusal("InvalidToken", status=400), TERMINAL, Reason.STORE_ACCESS_DENIED, "AWS_SESSION_TOKEN"),
    "refresh": (refusal("TokenRefreshRequired", status=400), RETRYABLE, Reason.STORE_CREDENTIALS_EXPIRED, "expired"),
    "clock in words": (
        refusal("AccessDenied", "Request is not valid yet"),
        RETRYABLE,
        Reason.STORE_CLOCK_SKEWED,
        "clock",
    ),
    "full": (refusal("XMinioStorageFull", status=507), RETRYABLE, Reason.STORE_FULL, "no room"),
    "quota": (refusal("QuotaExceeded"), RETRYABLE, Reason.STORE_FULL, "quota"),
    "disk": (refusal("InternalError", "write: no space left on device", 500), RETRYABLE, Reason.STORE_FULL, "no room"),
    "slow": (refusal("SlowDown", status=503), RETRYABLE, Reason.STORE_UNREACHABLE, "busy"),
    "digest": (refusal("BadDigest", status=400), RETRYABLE, Reason.STORE_UNREACHABLE, "damaged on its way"),
    "new trouble": (refusal("NeverHeardOf", "dear me", 500), RETRYABLE, Reason.STORE_UNREACHABLE, "dear me"),
    "page": (Reply(404, HTML, "text/html"), TERMINAL, Reason.STORE_MISCONFIGURED, "not answer as S3"),
    "login": (Reply(302, HTML, "text/html"), TERMINAL, Reason.STORE_MISCONFIGURED, "not answer as S3"),
    "json": (Reply(401, '{"error": "no"}', "application/json"), TERMINAL, Reason.STORE_MISCONFIGURED, "as S3"),
    "proxy refuses": (Reply(403, HTML, "text/html"), TERMINAL, Reason.STORE_MISCONFIGURED, "a proxy that refuses"),
    "https": (
        Reply(400, "Client sent an HTTP request to an HTTPS server.", "text/plain"),
        TERMINAL,
        Reason.STORE_MISCONFIGURED,
        "https://",
    ),
    "nginx": (Reply(413, HTML, "text/html"), TERMINAL, Reason.STORE_REFUSED, "client_max_body_size"),
    "bad gateway": (Reply(502, HTML, "text/html"), RETRYABLE, Reason.STORE_UNREACHABLE, "busy"),
}


@pytest.mark.bad_input
@ASK
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_each_refusal_has_its_class_its_words_and_a_remedy(
    row: tuple[Reply, ErrorClass, Reason, str], name: str, asker: Asker
) -> None:
    reply, error_class, reason, words = row
    failure = asker.refused(name, reply)
    assert (failure.error_class, failure.reason) == (error_class, reason), failure.message
    assert words in failure.message
    message = reply.body.partition("<Message>")[2].partition("</Message>")[0]
    assert message in failure.message, "the server's own sentence is shown"


@pytest.mark.parametrize("name", ["find_bytes", "list", "put_bytes", "download"])
def test_a_web_page_is_never_taken_for_an_object(name: str, asker: Asker) -> None:
    failure = asker.refused(name, Reply(200, HTML, "text/html"))
    assert failure.reason is Reason.STORE_MISCONFIGURED
    assert not (asker.folder / "copy").exists()


def test_a_bucket_that_is_missing_is_no_object_that_is_missing(asker: Asker) -> None:
    asker.stub.replies = [refusal("NoSuchKey", status=404)]
    assert asker.store.find_bytes(URI) is None
    assert "no such bucket" in asker.refused("find_bytes", refusal("NoSuchBucket", status=404)).message


@pytest.mark.parametrize("name", ["find_bytes", "list", "download"])
def test_an_answer_that_is_cut_short_is_asked_for_again(name: str, asker: Asker) -> None:
    body = "<ListBucketResult><Contents>"
    reply = Reply(200, body, cut=100, headers={"etag": '"e"', "x-amz-request-id": "1"})
    failure = asker.refused(name, reply)
    assert isinstance(failure, RetryableFailure)
    assert failure.reason is Reason.STORE_UNREACHABLE


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("http://127.0.0.1:{port}", "refused"),
        ("http://no-such-host.invalid:7070", "not known to DNS"),
        ("http://user:pass-word@127.0.0.1:{port}", "does not answer"),
    ],
)
def test_a_store_that_is_not_there(endpoint: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    store = ObjectStore(Store(endpoint=endpoint.format(port=free_port())), attempts=1)
    for ask in ASKED.values():
        with pytest.raises(RetryableFailure) as failure:
            ask(store, tmp_path)
        assert failure.value.reason is Reason.STORE_UNREACHABLE
        assert words in failure.value.message
        assert "pass-word" not in failure.value.message


def test_a_proxy_at_fault_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    for name in ("NO_PROXY", "no_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RetryableFailure, match=r"proxy.*noProxy"):
        ObjectStore(Store(endpoint="http://store.example:9000"), attempts=1).find_bytes(URI)


def test_a_secret_that_a_server_echoes_is_not_shown(asker: Asker) -> None:
    failure = asker.refused("find_bytes", refusal("SignatureDoesNotMatch", f"you signed with {SECRET}"))
    assert "you signed with ***" in failure.message


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=3,
)
ERRORS = ANY | st.fixed_dictionaries({}, optional=dict.fromkeys(("Code", "Message", "Region", "Foreign"), ANY))
METADATA = ANY | st.fixed_dictionaries({}, optional={"HTTPStatusCode": ANY | st.integers(100, 599), "HTTPHeaders": ANY})
CODES = st.sampled_from(["AccessDenied", "SlowDown", "403", "", "InvalidRequest"]) | st.text()


@pytest.mark.fuzz
@given(ERRORS, METADATA, st.text())
def test_whatever_shape_an_answer_has_it_becomes_a_sentence(error: Any, metadata: Any, operation: str) -> None:
    if not isinstance(error, dict):
        error = {}
    found = ClientError({"Error": {"Code": "X", "Message": "y"}}, "GetObject")
    found.response, found.operation_name = {"Error": error, "ResponseMetadata": metadata}, operation
    is_sentence(failure_of(found, "could not read x", "http://store"))


@pytest.mark.fuzz
@given(
    CODES, st.integers(0, 999), st.text(max_size=2000), st.sampled_from(["GetObject", "PutObject", "HeadObject", ""])
)
def test_every_code_and_status_has_a_class_and_keeps_the_words(code: str, status: int, text: str, name: str) -> None:
    response: Any = {"Error": {"Code": code, "Message": text}, "ResponseMetadata": {"HTTPStatusCode": status}}
    failure = failure_of(ClientError(response, name), "could not read x", "http://store")
    is_sentence(failure)
    assert shown(text) in failure.message
    if 500 <= status <= 599 and code not in ("AccessDenied", "403", "InvalidRequest"):
        assert failure.error_class is ErrorClass.RETRYABLE or "support" in failure.message


def is_sentence(failure: JobFailure) -> None:
    assert failure.reason is not Reason.INTERNAL
    assert failure.message.startswith("could not read x: the store at http://store ")
    assert failure.message.isprintable()
    assert len(failure.message) < 1500


LISTING = "<?xml version='1.0'?><ListBucketResult><Name>star</Name>{}</ListBucketResult>"
CONTENTS = "<Contents><Key>p/a</Key>{}<LastModified>0001-01-01T00:00:00+05:00</LastModified></Contents>"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (LISTING.format("<IsTruncated>true</IsTruncated>"), "no way to the next"),
        (LISTING.format(CONTENTS.format("")), "without key or size"),
        ("<?xml version='1.0'?><Other/>", "no listing"),
    ],
)
def test_a_listing_that_is_none_is_not_taken_for_an_empty_one(asker: Asker, body: str, says: str) -> None:
    asker.stub.replies = [Reply(200, body)]
    with pytest.raises(JobFailure, match=says) as failure:
        list(asker.store.list("s3://star/p"))
    assert failure.value.reason is Reason.STORE_MISCONFIGURED


def test_an_object_of_no_year_has_no_time(asker: Asker) -> None:
    asker.stub.replies = [Reply(200, LISTING.format(CONTENTS.format("<Size>1</Size>")))]
    (item,) = asker.store.list("s3://star/p")
    assert (item.path, item.bytes, item.modified) == ("a", 1, "")
