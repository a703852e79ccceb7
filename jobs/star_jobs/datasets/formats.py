"""Which files of a prefix are the source's, by format: what the inventory, and so a source's version, is made of."""

from collections.abc import Callable, Mapping

from star_contracts.settings import DatasetFormat
from star_jobs.datasets import agentrecbench, movielens

WANTED: Mapping[DatasetFormat, Callable[[str], bool]] = {
    DatasetFormat.MOVIELENS: movielens.wanted,
    DatasetFormat.AGENT_REC_BENCH: agentrecbench.wanted,
}
