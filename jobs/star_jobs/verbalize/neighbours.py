"""Stage `compute-neighbours`: a dataset's safe interactions -> the neighbours that signals are made from.

Its files are described in `star_jobs.verbalize.pairs`.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from star_contracts.artifact import ArtifactKind
from star_contracts.data import SignalKind
from star_contracts.job import ComputeNeighbours
from star_contracts.settings import NeighbourSettings
from star_jobs.datasets.snapshot import INTERACTIONS, ITEMS, Dataset
from star_jobs.runtime import JobContext, Outcome
from star_jobs.verbalize.graph import Blocks, Capped, Graph, liked_by_similar, similar, weighted
from star_jobs.verbalize.pairs import write_block, write_ids


def run(stage: ComputeNeighbours, job: JobContext) -> Outcome:
    """Compute both kinds of neighbours. Raises JobFailure as `job.fetch` does."""
    dataset = Dataset(job.fetch(stage.dataset, only=[ITEMS, INTERACTIONS]))
    graph = Graph.of(dataset.scan_interactions())
    job.log.info("graph", users=len(graph.users), items=len(graph.items), edges=graph.edges.nnz)
    folder = job.scratch / "neighbours"
    write_ids(folder, graph.items, graph.users)
    total, done, keys = len(graph.items) + len(graph.users), 0, dict.fromkeys(SignalKind, 0)
    parts = both(graph, stage.neighbours)
    for kind, blocks in parts.items():
        for start, block in blocks:
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


def both(graph: Graph, settings: NeighbourSettings) -> dict[SignalKind, Blocks]:
    """Make all matrices, side by side; what is left is to multiply them block by block."""
    capped = Capped.of(graph, settings.max_degree)
    with ThreadPoolExecutor() as pool:
        kinds = {SignalKind.ITEM_CF: item_cf, SignalKind.USER_CF: user_cf}
        made = {kind: pool.submit(make, capped, settings) for kind, make in kinds.items()}
    return {kind: blocks.result() for kind, blocks in made.items()}


def item_cf(capped: Capped, settings: NeighbourSettings) -> Blocks:
    """Return items' nearest items; each user counts with the newest `max_degree` items."""
    rows = capped.graph.matrix(capped.by_user).T.tocsr()
    return similar(weighted(rows, settings.weighting), settings.k)


def user_cf(capped: Capped, settings: NeighbourSettings) -> Blocks:
    """Return the items that users' nearest users liked and they did not take themselves.

    Each item counts with the newest `max_degree` users, and each near user with the newest `max_degree` items.
    """
    graph = capped.graph
    near = similar(weighted(graph.matrix(capped.by_item), settings.weighting), settings.k)
    return liked_by_similar(near, graph.matrix(capped.by_user & graph.liked), graph.matrix(), settings.k)
