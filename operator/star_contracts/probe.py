"""What a probe is told (`star-job probe-source`): which raw files to look at. It answers with their inventory alone."""

from typing import Literal

from star_contracts.artifact import S3Uri
from star_contracts.base import Model
from star_contracts.job import Store
from star_contracts.settings import DatasetFormat

PROBE_SPEC_PATH = "/etc/star/probe.json"


class ProbeSpec(Model):
    """A source whose version is asked for. Nothing is read but the listing, and nothing is written."""

    format_version: Literal[1] = 1
    store: Store
    format: DatasetFormat
    """Which of the files are the source's."""
    source: S3Uri
    """Prefix of the raw files."""
