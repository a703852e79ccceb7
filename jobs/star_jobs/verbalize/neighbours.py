"""Stage `compute-neighbours`: a dataset's safe interactions -> the neighbours that signals are made from.

Its files are described in `star_jobs.verbalize.pairs`.
"""

import numpy as np

from star_contracts.artifact import ArtifactKind
from star_contracts.data import SignalKind
from star_contracts.job import ComputeNeighbours
from star_contracts.settings import NeighbourSettings
from star_jobs.datasets.snapshot import INTERACTIONS, ITEMS, Dataset
from star_jobs.errors import TerminalFailure
from star_jobs.previous import Previous, fetch_previous, gone
from star_jobs.runtime import JobContext, Outcome
from star_jobs.verbalize.graph import Blocks, Graph, liked_by_similar, similar, weighted
from star_jobs.verbalize.pairs import Neighbours, Origin, write_block, write_edges, write_ids, write_origin
from star_jobs.verbalize.tolerance import Settled, Tolerance, comparable


def run(stage: ComputeNeighbours, job: JobContext) -> Outcome:
    """Compute both kinds of neighbours. Raises JobFailure as `job.fetch` does, Finished where nothing has changed."""
    previous, earlier = _earlier(stage, job)
    before = earlier.origin if earlier is not None else None
    if stage.previous is not None and before is not None and _is_of(before, stage):
        job.take_as_done(stage.previous)
    dataset = Dataset(job.fetch(stage.dataset, only=[ITEMS, INTERACTIONS]))
    graph = Graph.of(dataset.scan_interactions())
    job.log.info("graph", users=len(graph.users), items=len(graph.items), edges=graph.edges.nnz)
    folder = job.scratch / "neighbours"
    write_ids(folder, graph.items, graph.users)
    tolerance = None
    if earlier is not None and comparable(earlier, stage.neighbours):
        tolerance = Tolerance(earlier, graph, stage.neighbours.tolerance)
    total, done, keys, kept = len(graph.items) + len(graph.users), 0, dict.fromkeys(SignalKind, 0), 0
    for kind, near in KINDS.items():
        for start, block in near(graph, stage.neighbours):
            job.raise_if_stopping()
            settled = tolerance.settle(kind, start, block) if tolerance is not None else Settled(block)
            write_block(folder, kind, start, settled.block, settled.since)
            keys[kind] += int(np.count_nonzero(np.diff(settled.block.indptr)))
            done, kept = done + block.shape[0], kept + settled.kept
            job.progress(done, total, "nodes")
    snapshots = tolerance.snapshots if tolerance is not None else ()
    origin = Origin(
        dataset=stage.dataset.digest, settings=stage.neighbours, snapshots=(*snapshots, stage.dataset.digest)
    )
    write_origin(folder, origin)
    if stage.neighbours.tolerance:
        write_edges(folder, graph.edges)
    job.output.add_tree(folder)
    metrics = {
        "users": len(graph.users),
        "items": len(graph.items),
        "edges": graph.edges.nnz,
        "usersWithNeighbours": keys[SignalKind.USER_CF],
        "itemsWithNeighbours": keys[SignalKind.ITEM_CF],
        "keptWithinTolerance": kept,
    }
    return Outcome(ArtifactKind.NEIGHBOURS, {"dataset": stage.dataset.digest}, metrics, previous.warnings)


def _earlier(stage: ComputeNeighbours, job: JobContext) -> tuple[Previous, Neighbours | None]:
    """Return the earlier neighbours; those of a version that cannot be read any more are as good as gone."""
    previous = fetch_previous(job, stage.previous)
    if previous.folder is None or stage.previous is None:
        return previous, None
    try:
        return previous, Neighbours(previous.folder)
    except TerminalFailure as failure:
        return gone(job, stage.previous, failure), None


def _is_of(before: Origin, stage: ComputeNeighbours) -> bool:
    """Say whether earlier neighbours are those of this dataset: going on from them would give them again."""
    return (before.dataset, before.settings) == (stage.dataset.digest, stage.neighbours)


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
