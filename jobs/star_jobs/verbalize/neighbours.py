"""Stage `compute-neighbours`: a dataset's safe interactions -> the neighbours that signals are made from.

Its files are described in `star_jobs.verbalize.pairs`.
"""

import numpy as np

from star_contracts.artifact import ArtifactKind
from star_contracts.data import SignalKind
from star_contracts.job import ComputeNeighbours
from star_contracts.settings import NeighbourSettings
from star_jobs.datasets.snapshot import INTERACTIONS, ITEMS, Dataset
from star_jobs.runtime import JobContext, Outcome
from star_jobs.verbalize.graph import Blocks, Graph, liked_by_similar, similar, weighted
from star_jobs.verbalize.pairs import write_block, write_ids


def run(stage: ComputeNeighbours, job: JobContext) -> Outcome:
    """Compute both kinds of neighbours. Raises JobFailure as `job.fetch` does."""
    dataset = Dataset(job.fetch(stage.dataset, only=[ITEMS, INTERACTIONS]))
    graph = Graph.of(dataset.scan_interactions())
    job.log.info("graph", users=len(graph.users), items=len(graph.items), edges=graph.edges.nnz)
    folder = job.scratch / "neighbours"
    write_ids(folder, graph.items, graph.users)
    total, done, keys = len(graph.items) + len(graph.users), 0, dict.fromkeys(SignalKind, 0)
    for kind, near in KINDS.items():
        for start, block in near(graph, stage.neighbours):
            job.raise_if_stopping()
            write_block(folder, kind, start, block)
            done, keys[kind] = done + block.shape[0], keys[kind] + int(np.count_nonzero(np.diff(block.indptr)))
            job.progress(done, total, "nodes")
    job.output.add_tree(folder)
    metrics = {
        "users": len(graph.users),
        "items": len(graph.items),
        "edges": graph.edges.nnz,
        "usersWithNeighbours": keys[SignalKind.USER_CF],
        "itemsWithNeighbours": keys[SignalKind.ITEM_CF],
    }
    return Outcome(ArtifactKind.NEIGHBOURS, {"dataset": stage.dataset.digest}, metrics)


def item_cf(graph: Graph, settings: NeighbourSettings) -> Blocks:
    """Return items' nearest items; each user counts with the newest `max_degree` items."""
    counted = graph.newest_of_users(settings.max_degree)
    return similar(*weighted(graph.transposed(counted), graph.matrix(counted), settings.weighting), settings.k)


def user_cf(graph: Graph, settings: NeighbourSettings) -> Blocks:
    """Return the items that users' nearest users liked and they did not take themselves.

    Each item counts with the newest `max_degree` users, and each near user with the newest `max_degree` items.
    """
    counted = graph.newest_of_items(settings.max_degree)
    near = similar(*weighted(graph.matrix(counted), graph.transposed(counted), settings.weighting), settings.k)
    liked = graph.newest_of_users(settings.max_degree) & graph.liked
    return liked_by_similar(near, graph.matrix(liked), graph.matrix(), settings.k)


KINDS = {SignalKind.ITEM_CF: item_cf, SignalKind.USER_CF: user_cf}
"""How each kind is found, one after the other: the matrices of one are gone before those of the next are made."""
