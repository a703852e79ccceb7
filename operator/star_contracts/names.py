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
