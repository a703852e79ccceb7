"""`star-job probe-source`: which version of its raw files a source is, from the listing alone.

The inventory is the one that a preparation would find (storage/inventory.py), so that its digest can be held against
`status.source.digest` of a RecDataset. No file is opened.
"""

import os
import threading
from pathlib import Path

from pydantic import ValidationError

from star_contracts.errors import Reason
from star_contracts.probe import PROBE_SPEC_PATH, ProbeSpec
from star_contracts.result import JobResult
from star_jobs.datasets.formats import WANTED
from star_jobs.errors import TerminalFailure
from star_jobs.storage import ObjectStore
from star_jobs.storage.inventory import take_inventory


def probe(_stopping: threading.Event) -> JobResult:
    """Return the inventory that the probe's spec asks for, as the result's `source`. Raises JobFailure."""
    path = Path(os.environ.get("STAR_PROBE_SPEC", PROBE_SPEC_PATH))
    try:
        spec = ProbeSpec.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise TerminalFailure(
            Reason.INVALID_JOB_SPEC, f"the probe's spec {path} cannot be used ({error}); set STAR_PROBE_SPEC"
        ) from error
    return run_probe(spec, ObjectStore(spec.store))


def run_probe(spec: ProbeSpec, store: ObjectStore) -> JobResult:
    """Return the inventory of the source's files. Raises JobFailure as the store does."""
    return JobResult(source=take_inventory(store, spec.source, WANTED[spec.format]))
