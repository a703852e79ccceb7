"""What boto3 raises -> the jobs' error tree, with the store's own sentence in it and never a secret.

The meanings of a store's answers stand in `faults.py`; here are those of connections that bring none.
"""

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

from boto3.exceptions import Boto3Error, RetriesExceededError
from botocore.awsrequest import AWSResponse
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.exceptions import ConnectionError as NoConnection
from botocore.parsers import ResponseParserError
from s3transfer.exceptions import RetriesExceededError as TransferRetriesExceededError
from s3transfer.exceptions import S3DownloadFailedError
from urllib3.exceptions import HTTPError

from star_contracts.errors import Reason
from star_jobs.errors import JobFailure, RetryableFailure, TerminalFailure
from star_jobs.storage.faults import CHANGED, NOT_S3, Answer, Fault, fault_of


class NotAnObjectStore(Exception):
    """A successful answer that no S3 server gives, such as a web page; the text says what it is."""


STORE_ERRORS = (
    BotoCoreError,
    ClientError,
    Boto3Error,
    HTTPError,
    ResponseParserError,
    S3DownloadFailedError,
    TransferRetriesExceededError,
    NotAnObjectStore,
    ValueError,
)
"""All that a call of the store raises; the disk's errors are OSErrors and stay so."""
WEB_IDENTITY_TOKEN = "AWS_WEB_IDENTITY_TOKEN_FILE"  # noqa: S105 - a variable's name
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_SHOWN = 300
"""Characters of a server's own words in a sentence."""
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")
_TAGS = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.S | re.I)
_PAGE = re.compile(r"<(!doctype )?html", re.I)
_OBJECT = re.compile(r"^<[^>]*>: ")
_CA = (
    "set caBundle in the chart's values to the certificate authority that signed it (starctl: AWS_CA_BUNDLE), and ask "
    "for the store by a name that its certificate has"
)
_DATES = ("certificate has expired", "certificate is not yet valid")


def failure_of(error: Exception, what: str, endpoint: str) -> JobFailure:
    """Return the failure; `what` is what could not be done, e.g. `could not read s3://star/x`."""
    inner = _wrapped(error)
    if inner is not None:
        return failure_of(inner, what, endpoint)
    where = f"the store at {shown(endpoint)}"
    if isinstance(error, ClientError):
        answer = answer_of(error)
        return _failure(fault_of(answer), what, where, _words(answer))
    if isinstance(error, NotAnObjectStore):
        return _failure(NOT_S3, what, where, str(error))
    if isinstance(error, ResponseParserError) and _PAGE.search(str(error)):
        return _failure(NOT_S3, what, where, "a web page")
    if isinstance(error, S3DownloadFailedError):
        return _failure(CHANGED, what, where, shown(str(error)))
    unread = isinstance(error, OSError) and error.filename is not None
    if unread or isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return _no_credentials(error, what)
    if certificate := _certificate_fault(error):
        return _failure(certificate, what, where, shown(_detail(error)))
    if isinstance(error, NoConnection | HTTPClientError | IncompleteReadError | HTTPError | ResponseParserError):
        return _silent(error, what, where)
    if isinstance(error, Boto3Error):
        return _silent(error, what, where)
    return TerminalFailure(
        Reason.INVALID_JOB_SPEC, f"{what}: {shown(str(error))}; check the store's settings (store.connection)"
    )


def is_of_the_store(error: OSError) -> bool:
    """Tell whether the file that could not be read is the pod's token, and no file of the work."""
    token = os.environ.get(WEB_IDENTITY_TOKEN)
    return token is not None and error.filename == token


def answer_of(error: ClientError) -> Answer:
    """Return what the store answered. Every field may be missing from an answer, or be of another type."""
    response: Any = error.response if isinstance(error.response, Mapping) else {}
    body, metadata = _mapping(response.get("Error")), _mapping(response.get("ResponseMetadata"))
    headers, status = _mapping(metadata.get("HTTPHeaders")), metadata.get("HTTPStatusCode", 0)
    code = str(body.get("Code") or "")
    if not isinstance(status, int) or not status:
        status = int(code) if re.fullmatch(r"[1-5]\d\d", code) else 0
    return Answer(
        code=shown(code) or str(status or "Unknown"),
        status=status,
        message=shown(str(body.get("Message") or "")),
        operation=str(error.operation_name or ""),
        region=shown(str(body.get("Region") or headers.get("x-amz-bucket-region") or "")),
        foreign=bool(body.get("Foreign")),
    )


def keep_the_answer(http_response: AWSResponse, parsed: dict[str, Any], **_: object) -> None:
    """Handler of botocore's `after-call`: keep the words of an answer that is no S3 error, which botocore drops.

    Raises NotAnObjectStore for a web page where an object was asked for: it would be taken for the object.
    """
    headers = {str(name).lower(): str(value) for name, value in http_response.headers.items()}
    status = getattr(http_response.raw, "status", http_response.status_code)  # botocore makes 500 of a 200 it dislikes
    if status < 300:
        if headers.get("content-type", "").startswith("text/html") and not any(h.startswith("x-amz-") for h in headers):
            raise NotAnObjectStore("a web page (text/html)")
        return
    error = parsed.setdefault("Error", {})
    text = http_response.content.decode(errors="replace")
    if text.strip() and (not error.get("Code") or str(error["Code"]).isdecimal()):
        error["Code"] = str(status)
        error["Message"] = " ".join(_TAGS.sub(" ", text).split()) or error.get("Message", "")
        error["Foreign"] = True


def shown(text: str) -> str:
    """Return a server's or library's words as they may be shown: one line, not long, no secret of this process."""
    for name in _SECRETS:
        secret = os.environ.get(name)
        if secret:
            text = text.replace(secret, "***")
    text = "".join(char if char.isprintable() else " " for char in _USER_INFO.sub("***@", text))
    return " ".join(text.split())[:_SHOWN]


def _failure(fault: Fault, what: str, where: str, words: str) -> JobFailure:
    told = f" ({words})" if words else ""
    return fault.failure(fault.reason, f"{what}: {where} {fault.says}{told}; {fault.remedy}")


def _words(answer: Answer) -> str:
    region = f"the bucket is in {answer.region}" if answer.region else ""
    return ", ".join(part for part in (": ".join(filter(None, (answer.code, answer.message))), region) if part)


def _silent(error: Exception, what: str, where: str) -> RetryableFailure:
    """Return the failure of a connection that brought no answer, with what to look at."""
    detail, remedy = _detail(error), "check its endpoint (http or https?) and that it runs"
    match error:
        case ProxyConnectionError():
            remedy = "the proxy is at fault: check proxy.* in the chart's values, or add the store's host to noProxy"
        case ConnectTimeoutError():
            remedy = "nothing says no either: look at NetworkPolicies and firewalls between the pod and the store"
        case ReadTimeoutError() | IncompleteReadError() | ConnectionClosedError() | HTTPError() | ResponseParserError():
            detail = f"its answer was cut short: {detail}"
    if "Name or service not known" in detail or "name resolution" in detail or "No address" in detail:
        remedy = "its name is not known to DNS: check store.connection.endpoint"
    return RetryableFailure(Reason.STORE_UNREACHABLE, f"{what}: {where} does not answer ({shown(detail)}); {remedy}")


def _no_credentials(error: Exception, what: str) -> JobFailure:
    token = os.environ.get(WEB_IDENTITY_TOKEN)
    if token is None:
        remedy = (
            "the store's Secret must hold AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the pods' service account "
            "a role (docs/store.md)"
        )
    else:
        remedy = f"the pod takes a role by the token {token} ({WEB_IDENTITY_TOKEN}): see that it is mounted"
    return TerminalFailure(Reason.STORE_ACCESS_DENIED, f"{what}: no credentials ({shown(str(error))}); {remedy}")


def _certificate_fault(error: Exception) -> Fault | None:
    """Return what is wrong between this pod and the store's certificate, if that is what failed."""
    causes = list(_causes(error))
    text = " ".join(str(cause) for cause in causes)
    if "[X509" in text or any(isinstance(cause, FileNotFoundError | PermissionError) for cause in causes):
        says = "cannot be trusted: the CA bundle is not there or no PEM file"
        return Fault(TerminalFailure, Reason.STORE_MISCONFIGURED, says, _CA)
    if any(date in text for date in _DATES):
        remedy = "renew it; if it is valid, set the clock of the node right; it is tried again"
        return Fault(RetryableFailure, Reason.STORE_UNREACHABLE, "has a certificate out of its time", remedy)
    if "CERTIFICATE_VERIFY_FAILED" in text or "doesn't match" in text:
        says = "has a certificate that this pod does not trust"
        return Fault(TerminalFailure, Reason.STORE_MISCONFIGURED, says, _CA)
    if isinstance(error, SSLError) or any(isinstance(cause, ssl.SSLError) for cause in causes):
        if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text or "HTTP_REQUEST" in text:
            remedy = "write http:// in store.connection.endpoint of the chart's values"
            return Fault(TerminalFailure, Reason.STORE_MISCONFIGURED, "does not speak TLS", remedy)
        remedy = "check the endpoint's port, its certificate, and TLS proxies in between"
        return Fault(RetryableFailure, Reason.STORE_UNREACHABLE, "broke off the TLS handshake", remedy)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what is behind it: its causes, and what botocore and urllib3 keep as attributes."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        kwargs = _mapping(getattr(one, "kwargs", None))
        behind = (kwargs.get("error"), getattr(one, "reason", None), *one.args, one.__cause__, one.__context__)
        waiting += [item for item in behind if isinstance(item, BaseException)]


def _wrapped(error: Exception) -> Exception | None:
    """Return what boto3 and s3transfer wrapped; None for an error that speaks for itself."""
    inner: object = None
    if isinstance(error, RetriesExceededError | TransferRetriesExceededError):
        inner = getattr(error, "last_exception", None)
    elif isinstance(error, Boto3Error):
        inner = error.__cause__ or error.__context__
    return inner if isinstance(inner, Exception) and inner is not error else None


def _detail(error: Exception) -> str:
    """Return the words of the innermost error that botocore keeps, without the address of a Python object."""
    inner = _mapping(getattr(error, "kwargs", None)).get("error")
    return _OBJECT.sub("", str(inner or error)) or type(error).__name__


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
