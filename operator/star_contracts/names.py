"""Names both sides must agree on: the API group, labels, and the container's places."""

GROUP = "star.recsys.dev"
VERSION = "v1alpha1"
FIELD_MANAGER = "star-operator"

LABEL_KIND = f"{GROUP}/kind"
LABEL_NAME = f"{GROUP}/name"
LABEL_ATTEMPT = f"{GROUP}/attempt"
LABEL_STEP = f"{GROUP}/step"

WORK_DIR = "/work"
SPEC_DIR = "/etc/star"
CA_FILE = "ca.crt"
"""The private certificate authorities, as a file in SPEC_DIR."""
CA_VARIABLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""Where boto3, requests, and OpenSSL with httpx look for certificate authorities instead of the public ones."""
