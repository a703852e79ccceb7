"""What a store answers -> what that means and what to do: one table, pure.

Codes are those of Amazon S3 (API reference, `Error responses`), of STS, and of servers that speak S3 (MinIO's begin
with `XMinio`, versitygw's with `XAdmin`). Some servers say what matters in words alone, so that of the codes that can
mean anything the words are looked at too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from star_contracts.errors import Reason
from star_jobs.errors import JobFailure, RetryableFailure, TerminalFailure

POLICY = "docs/store.md has a policy to copy"
_ENDPOINT = "check store.connection.endpoint in the chart's values"


@dataclass(frozen=True)
class Answer:
    """A store's refusal of one request."""

    code: str
    """The word of the answer's body; the HTTP status where there is none (HEAD) or where it is no S3 answer."""
    status: int
    """HTTP status; 0 when unknown."""
    message: str = ""
    """The server's own words."""
    operation: str = ""
    """Name of the S3 operation, e.g. `GetObject`."""
    region: str = ""
    """The bucket's region, where the store tells."""
    foreign: bool = False
    """The body is something else than S3's XML: a web page, JSON, a proxy's words."""


@dataclass(frozen=True)
class Fault:
    """What an answer means."""

    failure: type[JobFailure]
    reason: Reason
    says: str
    """What the store says or does, as a verb phrase."""
    remedy: str


def _retry(reason: Reason, says: str, remedy: str) -> Fault:
    return Fault(RetryableFailure, reason, says, remedy)


def _end(reason: Reason, says: str, remedy: str) -> Fault:
    return Fault(TerminalFailure, reason, says, remedy)


CLOCK = _retry(
    Reason.STORE_CLOCK_SKEWED,
    "finds this pod's clock too far from its own",
    "set the clocks of the node and of the store right (NTP); it is tried again",
)
EXPIRED = _retry(
    Reason.STORE_CREDENTIALS_EXPIRED,
    "says that the credentials expired",
    "put new ones into the store's Secret (with AWS_SESSION_TOKEN): the next attempt's pods read it anew",
)
CREDENTIALS = _end(
    Reason.STORE_ACCESS_DENIED,
    "refused the credentials",
    "check the keys in the store's Secret; temporary ones need AWS_SESSION_TOKEN beside them",
)
IDENTITY = _end(
    Reason.STORE_ACCESS_DENIED,
    "gave no credentials for the pod's service account",
    "check the role (AWS_ROLE_ARN), its trust policy and the service account's annotation",
)
OBJECT = _end(Reason.ARTIFACT_NOT_FOUND, "has no such object", "check the URI, and whether it was deleted")
BUCKET = _end(
    Reason.STORE_MISCONFIGURED,
    "has no such bucket",
    "check the bucket's name (store.uri in the chart's values, or the URI in the spec), or create it",
)
REGION = _end(
    Reason.STORE_MISCONFIGURED,
    "has this bucket in another region",
    "set store.connection.region, and the endpoint where it names a region, in the chart's values",
)
NOT_S3 = _end(
    Reason.STORE_MISCONFIGURED,
    "did not answer as S3 does",
    f"{_ENDPOINT}: it must be the S3 API itself, not a console, a login page or a proxy that refuses",
)
PLAIN = _end(
    Reason.STORE_MISCONFIGURED,
    "speaks HTTPS, and was asked by HTTP",
    "write https:// in store.connection.endpoint of the chart's values",
)
PROXY = _end(
    Reason.STORE_MISCONFIGURED,
    "is behind a proxy that wants a password",
    "add the store's host to proxy.noProxy in the chart's values, or let the proxy admit pods without one",
)
LOCKED = _end(
    Reason.STORE_REFUSED,
    "protects the object by Object Lock or a retention rule",
    "artifacts are never overwritten, but work areas are cleaned up: exempt the store's prefix, or use another bucket",
)
ARCHIVED = _end(
    Reason.STORE_REFUSED,
    "has the object in an archive class",
    "restore it first (aws s3api restore-object), and keep the store's prefix out of archiving life-cycle rules",
)
KEYS = _end(
    Reason.STORE_REFUSED,
    "cannot use the bucket's encryption key",
    "see that the KMS key is enabled and that the role may use it (kms:GenerateDataKey, kms:Decrypt)",
)
TOO_LARGE = _end(
    Reason.STORE_REFUSED,
    "does not take objects or requests of this size",
    "raise the limit of the store, or of the proxy in front of it (nginx: client_max_body_size)",
)
UNSUPPORTED = _end(
    Reason.STORE_REFUSED,
    "does not support this request",
    f"{_ENDPOINT}: the store must support multipart uploads and ListObjectsV2",
)
REFUSED = _end(Reason.STORE_REFUSED, "refused the request", "look at what it says, and at the store's own log")
FULL = _retry(
    Reason.STORE_FULL, "has no room left", "free space, or raise the quota of the bucket; it is then tried again"
)
BUSY = _retry(Reason.STORE_UNREACHABLE, "is busy or in trouble", "if this goes on, look at the store's own log")
TRANSIT = _retry(
    Reason.STORE_UNREACHABLE, "found the request damaged on its way", "if this goes on, look at proxies in between"
)
CHANGED = _retry(
    Reason.SOURCE_CHANGED, "has another version of the object by now", "let its writer finish; it is tried again"
)

_FAULTS: Mapping[Fault, str] = {
    CLOCK: "RequestTimeTooSkewed RequestExpired RequestInTheFuture",
    EXPIRED: "ExpiredToken ExpiredTokenException TokenRefreshRequired",
    CREDENTIALS: "InvalidAccessKeyId SignatureDoesNotMatch InvalidToken InvalidSecurity InvalidClientTokenId "
    "UnrecognizedClientException MissingSecurityHeader CredentialsNotSupported MissingAuthenticationToken "
    "IncompleteSignature InvalidSignatureException XAdminUserNotFound XAdminNoSuchUser XMinioAdminNoSuchUser",
    IDENTITY: "InvalidIdentityToken IDPCommunicationError IDPRejectedClaim",
    OBJECT: "NoSuchKey NotFound 404 NoSuchVersion",
    BUCKET: "NoSuchBucket InvalidBucketName",
    REGION: "PermanentRedirect AuthorizationHeaderMalformed IllegalLocationConstraintException TemporaryRedirect "
    "InvalidRegion InvalidLocationConstraint Redirect 301 307 308",
    LOCKED: "ObjectLocked ObjectLockConfigurationNotFoundError InvalidRetentionPeriod",
    ARCHIVED: "InvalidObjectState ObjectNotInActiveTierError",
    KEYS: "KMSNotConfigured KeyUnavailableException InvalidEncryptionAlgorithmError",
    TOO_LARGE: "EntityTooLarge MaxMessageLengthExceeded MetadataTooLarge KeyTooLongError RequestHeaderSectionTooLarge",
    UNSUPPORTED: "MethodNotAllowed NotImplemented XNotImplemented UnsupportedArgument 405 501",
    FULL: "XMinioStorageFull XMinioAdminBucketQuotaExceeded QuotaExceeded QuotaExceededException InsufficientStorage "
    "StorageFull InsufficientCapacity ServiceQuotaExceededException TooManyBuckets",
    BUSY: "SlowDown SlowDownRead SlowDownWrite ServiceUnavailable InternalError InternalServerError RequestTimeout "
    "RequestTimeoutException RequestLimitExceeded Throttling ThrottlingException TooManyRequests "
    "ProvisionedThroughputExceededException BandwidthLimitExceeded OperationAborted ConditionalRequestConflict "
    "XMinioServerNotInitialized XMinioWriteQuorum XMinioReadQuorum Busy",
    TRANSIT: "BadDigest IncompleteBody InvalidDigest XAmzContentSHA256Mismatch XAmzContentChecksumMismatch "
    "ContentSHA256Mismatch MissingContentLength InvalidPart InvalidPartOrder NoSuchUpload",
    CHANGED: "PreconditionFailed InvalidRange",
}
_BY_CODE = {code: fault for fault, codes in _FAULTS.items() for code in codes.split()}

_BY_STATUS: Mapping[int, Fault] = {
    HTTPStatus.UNAUTHORIZED: CREDENTIALS,
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: PROXY,
    HTTPStatus.REQUEST_TIMEOUT: BUSY,
    HTTPStatus.CONFLICT: BUSY,
    HTTPStatus.PRECONDITION_FAILED: CHANGED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TOO_LARGE,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: TOO_LARGE,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: CHANGED,
    HTTPStatus.TOO_EARLY: BUSY,
    HTTPStatus.TOO_MANY_REQUESTS: BUSY,
    HTTPStatus.INSUFFICIENT_STORAGE: FULL,
}
"""Of answers whose code says nothing by itself."""

_BY_WORDS = (
    (re.compile(r"object.?lock|\bWORM\b|retention|legal hold", re.I), LOCKED),
    (re.compile(r"too skewed|signature (expired|not yet current)|not valid yet|not yet valid", re.I), CLOCK),
    (re.compile(r"(token|credentials?|session|key)\b.{0,30}\bexpired|has expired", re.I), EXPIRED),
    (re.compile(r"\bkms\b", re.I), KEYS),
    (re.compile(r"quota|storage.{0,20}\bfull\b|no space left|insufficient storage", re.I), FULL),
    (re.compile(r"HTTP request.{0,30}HTTPS", re.I), PLAIN),
)
_VAGUE = frozenset({"AccessDenied", "Forbidden", "InvalidRequest", "SignatureDoesNotMatch", "InternalError", "Unknown"})
"""Codes that servers use for several things."""
_DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "AllAccessDisabled", "AccountProblem", "Forbidden", "403"}
)

_RIGHTS = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
    "DeleteObject": "s3:DeleteObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "CreateBucket": "s3:CreateBucket",
}
_WRITE = "s3:PutObject"
_NAMED_RIGHT = re.compile(r"\b(?:s3|kms|sts):[A-Za-z]+")
_NOT_AUTHORIZED = "not authorized to perform"


def fault_of(answer: Answer) -> Fault:
    """Return what an answer means; one that nobody foresaw goes by its HTTP status."""
    code, vague = answer.code, answer.code in _VAGUE or answer.code.isdecimal() or not answer.code
    if vague and _NOT_AUTHORIZED not in answer.message:
        for words, fault in _BY_WORDS:
            if words.search(answer.message):
                return fault
    by_status = _BY_STATUS.get(answer.status) if vague or code not in _BY_CODE else None
    if by_status is not None and code not in _DENIED and not (answer.foreign and by_status is CREDENTIALS):
        return by_status
    if answer.foreign and answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return NOT_S3
    if code in _DENIED:
        return _denied(answer)
    if code.startswith("KMS."):
        return KEYS
    return _BY_CODE.get(code) or _unforeseen(answer)


def _unforeseen(answer: Answer) -> Fault:
    if answer.status == HTTPStatus.FORBIDDEN:
        return _denied(answer)
    client_error = HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR
    return REFUSED if client_error else BUSY


def _denied(answer: Answer) -> Fault:
    """Name the right that is missing: in the server's own words where it names one, else by what was asked for."""
    if answer.operation.startswith("AssumeRole"):
        return IDENTITY
    named = _NAMED_RIGHT.search(answer.message)
    right = named[0] if named else _RIGHTS.get(answer.operation, _WRITE)
    remedy = f"grant it {right} on this bucket; {POLICY}"
    if named is None and right == "s3:GetObject":
        remedy = (
            "grant it s3:GetObject and s3:ListBucket: without s3:ListBucket a store answers so for every object that "
            f"is not there (yet); {POLICY}"
        )
    return _end(Reason.STORE_ACCESS_DENIED, f"does not give this account the right {right}", remedy)
