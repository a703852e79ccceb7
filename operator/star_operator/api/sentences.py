"""What each pattern wants, in words: the message a person gets instead of a regular expression.

Every pattern of a spec must be in here; the generator of the CRDs refuses one that is not. Only the operator writes
status, where patterns stay what they are.
"""

from star_contracts.artifact import DIGEST_PATTERN, S3_URI_PATTERN
from star_contracts.promotion import (
    BRANCH_PATTERN,
    EMAIL_PATTERN,
    FIELD_PATTERN,
    FILE_PATTERN,
    FORGE_PATTERN,
    MARKER_PATTERN,
    PERSON_PATTERN,
    REPOSITORY_PATTERN,
)
from star_operator.api.common import (
    DATA_KEY_PATTERN,
    DNS_LABEL,
    ENGINE_FLAG_PATTERN,
    HTTP_URL_PATTERN,
    MODEL_URI_PATTERN,
    NAME_PATTERN,
)
from star_operator.api.cron import CLOCK_PATTERN, CRON_PATTERN, TIME_PATTERN, ZONE_PATTERN
from star_operator.api.signatures import PUBLIC_KEY_PATTERN
from star_operator.api.stardeployment import METRIC_PATTERN, ORIGIN_PATTERN
from star_operator.api.starpipeline import VARIANT_PATTERN
from star_operator.core.podmeta import LABEL_KEY_PATTERN, LABEL_VALUE_PATTERN

SENTENCES: dict[str, str] = {
    DIGEST_PATTERN: "must be a digest: sha256: and 64 lower-case hex digits, as in status.artifact.digest",
    S3_URI_PATTERN: "must be s3://bucket/path: a lower-case bucket, at least one path segment, none of dots alone, and "
    "no slash at the end",
    MODEL_URI_PATTERN: "must be hf://org/name, hf://org/name@revision, with a letter, digit or _ at both ends of each "
    "part, or s3://bucket/path without a slash at the end",
    HTTP_URL_PATTERN: "must be an http:// or https:// URL of a plain host name or address, without user, query and "
    "fragment, e.g. http://host:8000/v1; write a name of another alphabet as xn--...",
    NAME_PATTERN: "must be a resource's name: lower-case letters, digits, - and ., with a letter or digit at both ends",
    DNS_LABEL: "must be a plain name: lower-case letters, digits and -, with a letter or digit at both ends",
    DATA_KEY_PATTERN: "must be a key of a Secret: letters, digits, -, _ and .",
    ENGINE_FLAG_PATTERN: "must be one flag of vllm serve, --name or --name=value, each in an entry of its own",
    LABEL_KEY_PATTERN: "must be name or prefix/name: letters, digits, -, _ and ., 63 at most in the name",
    LABEL_VALUE_PATTERN: "must be a label's value: 63 letters, digits, -, _ and . at most, no sign at its ends",
    VARIANT_PATTERN: "must be a variant's name: 20 lower-case letters, digits and - at most, none of - at its ends",
    METRIC_PATTERN: "must be a metric of the Evaluation's report, e.g. hrAvg, hr1 or random.hrAvg",
    PUBLIC_KEY_PATTERN: "must be one public key in PEM, from -----BEGIN PUBLIC KEY----- to -----END PUBLIC KEY-----",
    CRON_PATTERN: "must be five fields as in crontab(5), names in capitals: minute, hour, day of month, month, day of "
    "week, e.g. 30 2 * * MON",
    ZONE_PATTERN: "must be a zone of the IANA data base, e.g. Europe/Berlin or Etc/UTC",
    TIME_PATTERN: "must be a time as RFC 3339 in UTC and whole seconds, e.g. 2026-12-23T16:00:00Z",
    REPOSITORY_PATTERN: "must be https://host/path, ssh://user@host/path or user@host:path: no password, no query and "
    "no other protocol; credentials belong into the Secret that git.secretRef names",
    BRANCH_PATTERN: "must be a branch's name, e.g. main or env/prod, without refs/heads/",
    FILE_PATTERN: "must be a path from the repository's root, e.g. apps/prod/star.yaml; no part begins with a dot",
    FIELD_PATTERN: "must be keys with dots between them, e.g. spec.checkpoint or spec.items[0]",
    MARKER_PATTERN: "must be a marker's name: lower-case letters, digits, - and ., e.g. amazon-prod",
    FORGE_PATTERN: "must be the forge's https:// address, e.g. https://git.example.com",
    PERSON_PATTERN: "must be a name as in a commit, without < and >",
    EMAIL_PATTERN: "must be an e-mail address without < and >",
    CLOCK_PATTERN: "must be a time of day from 00:00 to 23:59, e.g. 22:00",
    ORIGIN_PATTERN: "must be an origin as browsers send it, https://host or https://host:port without a path, or *",
}
