"""Stage `compute-neighbours`: a dataset's safe interactions -> the neighbours that signals are made from.

Files: `item_cf/part-<n>.parquet` and `user_cf/part-<n>.parquet`, one row a key that has any:
key (str), neighbours (list of item ids, strongest first), weights (list of f32).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from star_contracts.artifact import ArtifactKind
from star_contracts.data import SignalKind
from star_contracts.job import ComputeNeighbours
from star_contracts.settings import NeighbourSettings
from star_jobs.datasets.snapshot import INTERACTIONS, ITEMS, Dataset
from star_jobs.runtime import JobContext, Outcome
from star_jobs.verbalize.graph import Graph, Matrix, liked_by_similar, similar, weighted

FOLDERS = {SignalKind.ITEM_CF: "item_cf", SignalKind.USER_CF: "user_cf"}
"""Where each tool's neighbours are in the artifact."""


def run(stage: ComputeNeighbours, job: JobContext) -> Outcome:
    """Compute both kinds of neighbours. Raises JobFailure as `job.fetch` does."""
    dataset = Dataset(job.fetch(stage.dataset, only=[ITEMS, INTERACTIONS]))
    graph = Graph.of(dataset.interactions())
    job.log.info("graph", users=len(graph.users), items=len(graph.items), edges=len(graph.edges))
    folder = job.scratch / "neighbours"
    total, done, keys = len(graph.items) + len(graph.users), 0, dict.fromkeys(SignalKind, 0)
    parts = {SignalKind.ITEM_CF: item_cf(graph, stage.neighbours), SignalKind.USER_CF: user_cf(graph, stage.neighbours)}
    for kind, blocks in parts.items():
        for number, (rows, frame) in enumerate(blocks):
            job.raise_if_stopping()
            _write(folder / FOLDERS[kind] / f"part-{number:05d}.parquet", frame)
            done, keys[kind] = done + rows, keys[kind] + len(frame)
            job.progress(done, total, "nodes")
    job.output.add_tree(folder)
    metrics = {
        "users": len(graph.users),
        "items": len(graph.items),
        "edges": len(graph.edges),
        "usersWithNeighbours": keys[SignalKind.USER_CF],
        "itemsWithNeighbours": keys[SignalKind.ITEM_CF],
    }
    return Outcome(ArtifactKind.NEIGHBOURS, {"dataset": stage.dataset.digest}, metrics)


def item_cf(graph: Graph, settings: NeighbourSettings) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield (rows done, frame) of items' nearest items; each user counts with the newest `max_degree` items."""
    by_item = graph.matrix(graph.capped("user", settings.max_degree)).T.tocsr()
    for start, block in similar(*weighted(by_item, settings.weighting), settings.k):
        yield block.shape[0], _frame(graph.items[start : start + block.shape[0]], graph.items, block)


def user_cf(graph: Graph, settings: NeighbourSettings) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield (rows done, frame) of the items that users' nearest users liked and they did not take themselves.

    Each item counts with the newest `max_degree` users.
    """
    by_user = graph.matrix(graph.capped("item", settings.max_degree))
    liked, taken = graph.matrix(graph.edges.filter("liked")), graph.matrix(graph.edges)
    for start, near in similar(*weighted(by_user, settings.weighting), settings.k):
        block = liked_by_similar(near, start, liked, taken, settings.k)
        yield block.shape[0], _frame(graph.users[start : start + block.shape[0]], graph.items, block)


def load_neighbours(folder: Path, kind: SignalKind, keys: Sequence[str] | None = None) -> dict[str, tuple[str, ...]]:
    """Return key -> neighbour item ids, strongest first, out of a fetched artifact; of some keys only, if given."""
    frame = pl.scan_parquet(folder / FOLDERS[kind] / "part-*.parquet").select("key", "neighbours")
    if keys is not None:
        frame = frame.filter(pl.col("key").is_in(list(keys)))
    return {key: tuple(ids) for key, ids in frame.collect().iter_rows()}


def _frame(keys: Sequence[str], items: Sequence[str], block: Matrix) -> pl.DataFrame:
    """Turn a block into a frame with one row for each key that has neighbours."""
    counts = np.diff(block.indptr)
    flat = pl.DataFrame(
        {
            "key": pl.Series(keys, dtype=pl.String)[np.repeat(np.arange(len(keys)), counts)],
            "neighbours": pl.Series(items, dtype=pl.String)[block.indices.astype(np.int64)],
            "weights": block.data.astype(np.float32),
        }
    )
    return flat.group_by("key", maintain_order=True).agg("neighbours", "weights")


def _write(path: Path, frame: pl.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path)
