"""What a promotion's Job is told: the file of its ConfigMap, as it was decided and no other."""

import os
from pathlib import Path

from pydantic import ValidationError

from star_contracts.base import sha256_digest
from star_contracts.errors import Reason
from star_contracts.promotion import PROMOTION_DIGEST_ENV, PROMOTION_SPEC_PATH, PromotionSpec
from star_jobs.errors import TerminalFailure


def read_orders() -> PromotionSpec:
    """Return the promotion's spec. Raises TerminalFailure(InvalidJobSpec), also where it is not the one decided."""
    path = Path(os.environ.get("STAR_PROMOTION_SPEC", PROMOTION_SPEC_PATH))
    try:
        data = path.read_bytes()
        spec = PromotionSpec.model_validate_json(data)
    except (OSError, ValidationError) as error:
        raise TerminalFailure(
            Reason.INVALID_JOB_SPEC, f"the promotion's spec {path} cannot be used ({error}); set STAR_PROMOTION_SPEC"
        ) from error
    wanted, found = os.environ.get(PROMOTION_DIGEST_ENV), sha256_digest(data)
    if wanted and wanted != found:
        text = f"the promotion's spec {path} is {found}, and {wanted} was decided: somebody has exchanged its ConfigMap"
        raise TerminalFailure(
            Reason.INVALID_JOB_SPEC, f"{text}; nothing was committed. See who may write ConfigMaps, and promote again"
        )
    return spec
