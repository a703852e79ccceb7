"""Time the neighbours of a large graph, from parquet to parquet, against the bare kernel on the same matrices.

    make bench-neighbours      or      .venv/bin/python tests/bench/bench_neighbours.py [--edges 9.8e6] [--runs 3]

The graph has as many users as items, 9.8 edges for each on average, log-normal activity and popularity (so that a
larger graph is more of the same), and string ids. Of 9.8M edges users capped to 100 items keep 8.8M. Each measurement
runs in a process of its own; the kernel, the peer and the end to end take turns, and the best of the runs counts. The
last line is the result:

    RESULT {"ratio_to_kernel": ..., "peak_rss_mb": ..., "growth_exponent": ..., ...}

ratio_to_kernel      the stage end to end (compile, read, graph, caps, weights, products, part files; Item-CF and
                     User-CF) over bare calls of `sp_matmul_topn`, the kernel that the field uses, for its three
                     products, with the same matrices, k and threads
item_cf_to_kernel    the same of Item-CF alone, with all that comes before it, over its one product
item_cf_to_implicit  and over `implicit`'s BM25Recommender fitted to the capped matrix in memory
peak_rss_mb          most resident memory of an end-to-end process
growth_exponent      slope of log(seconds) over log(edges) for the stage, from --smallest to --largest edges, without
                     compiling: seconds that are the same for all graphs would make it less
kernels_exponent     the same of the bare kernels
work_exponent        the same of the multiplications instead of the seconds: what is above it is the machine's caches
compile_s            seconds for compiling, once a process; part of the ratios
stage_s, item_cf_s, kernels_s, item_kernel_s, implicit_s  the rest of what the ratios are made of
growth_s             seconds of the stage and of the bare kernels by number of edges
capped_edges         edges that users' cap leaves for Item-CF
products             multiplications that the kernel does for it
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from implicit.nearest_neighbours import BM25Recommender
from numpy.typing import NDArray
from sparse_dot_topn import sp_matmul_topn

from star_contracts.data import SignalKind
from star_contracts.settings import NeighbourSettings
from star_jobs.verbalize.graph import Graph, Matrix, weighted
from star_jobs.verbalize.neighbours import KINDS
from star_jobs.verbalize.pairs import write_block, write_ids
from star_jobs.verbalize.products import best_products

SETTINGS = NeighbourSettings(k=50, max_degree=100)
DEGREE = 9.8
_ACTIVITY, _POPULARITY = 1.5, 1.5
"""Standard deviations of the logarithms of users' activity and items' popularity."""


def write_graph(path: Path, edges: int) -> None:
    """Write interactions (user_id, item_id, timestamp, rating): `edges` distinct pairs."""
    rng, nodes = np.random.default_rng(0), round(edges / DEGREE)
    active, popular = (np.cumsum(rng.lognormal(0, spread, nodes)) for spread in (_ACTIVITY, _POPULARITY))

    def draw(weights: NDArray[np.float64]) -> NDArray[np.uint64]:
        return np.searchsorted(weights, rng.random(edges // 2) * weights[-1]).astype(np.uint64)

    pairs = np.empty(0, np.uint64)
    while len(pairs) < edges:
        pairs = np.union1d(pairs, draw(active) << np.uint64(32) | draw(popular))
    pairs = rng.permutation(pairs)[:edges]
    users, items = (pl.Series([f"{side}{n:08d}" for n in range(nodes)]) for side in "UI")
    columns = {
        "user_id": users[(pairs >> np.uint64(32)).astype(np.uint32)],
        "item_id": items[pairs.astype(np.uint32)],
        "timestamp": rng.integers(0, 10**9, edges),
        "rating": rng.integers(1, 6, edges).astype(np.float64),
    }
    pl.DataFrame(columns).sort("user_id", "timestamp").write_parquet(path)  # as the dataset stage orders them


def end_to_end(source: Path, folder: Path) -> dict[str, float]:
    """What the stage does, without fetching and uploading."""
    one, began = sp.identity(1, np.float32, "csr"), time.perf_counter()
    best_products(one, one, one, 1)
    compiled, began = time.perf_counter() - began, time.perf_counter()
    graph = Graph.of(pl.scan_parquet(source))
    write_ids(folder, graph.items, graph.users)
    done = dict.fromkeys(SignalKind, 0.0)
    for kind, near in KINDS.items():
        for start, block in near(graph, SETTINGS):
            write_block(folder, kind, start, block)
        done[kind] = time.perf_counter() - began
    seconds = {"stage_s": done[SignalKind.USER_CF], "item_cf_s": done[SignalKind.ITEM_CF]}
    return {**seconds, "compile_s": compiled, "peak_rss_mb": peak_rss_mb()}


def kernel(source: Path, _: Path) -> dict[str, float]:
    """Each product in one multiplication of all rows; making the matrices does not count."""
    graph = Graph.of(pl.scan_parquet(source))
    by_user, by_item = graph.newest_of_users(SETTINGS.max_degree), graph.newest_of_items(SETTINGS.max_degree)
    of_user = graph.matrix(by_user)
    _, item_s = _bare(*weighted(graph.transposed(by_user), of_user, SETTINGS.weighting))
    near, user_s = _bare(*weighted(graph.matrix(by_item), graph.transposed(by_item), SETTINGS.weighting))
    _, liked_s = _bare(near, graph.matrix(by_user & graph.liked))
    counts = {"products": int((np.diff(of_user.indptr) ** 2.0).sum()), "capped_edges": of_user.nnz}
    return {"kernels_s": item_s + user_s + liked_s, "item_kernel_s": item_s, **counts}


def _bare(left: Matrix, right: Matrix) -> tuple[Matrix, float]:
    left.sort_indices()
    right.sort_indices()
    began = time.perf_counter()
    product = sp_matmul_topn(left, right, SETTINGS.k, sort=True, n_threads=len(os.sched_getaffinity(0)))
    return product, time.perf_counter() - began


def implicit(source: Path, _: Path) -> dict[str, float]:
    """The peer: items' neighbours by the library that the field uses; making its matrix does not count."""
    graph = Graph.of(pl.scan_parquet(source))
    by_user = graph.matrix(graph.newest_of_users(SETTINGS.max_degree)).astype(np.float64)
    model = BM25Recommender(K=SETTINGS.k, num_threads=len(os.sched_getaffinity(0)))
    began = time.perf_counter()
    model.fit(by_user, show_progress=False)
    return {"implicit_s": time.perf_counter() - began}


MEASUREMENTS = {"end_to_end": end_to_end, "kernel": kernel, "implicit": implicit}


def peak_rss_mb() -> float:
    """Most resident memory of this process so far (proc_pid_status(5), VmHWM), in MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024 / 1e6


def measure(name: str, source: Path) -> dict[str, float]:
    """Run a measurement in a process of its own."""
    command = [sys.executable, __file__, "--measure", name, str(source)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    print(f"{name:<11} {found}", flush=True)
    return found


def best(runs: Sequence[dict[str, float]], key: str) -> float:
    """The least of some runs."""
    return min(run[key] for run in runs)


def benchmark(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Make the graphs, measure, and return the result."""
    main = folder / "interactions.parquet"
    write_graph(main, int(options.edges))
    rounds = [[measure(name, main) for name in MEASUREMENTS] for _ in range(options.runs)]
    ends, kernels, peers = ([round_[at] for round_ in rounds] for at in range(len(MEASUREMENTS)))
    sizes = np.geomspace(options.smallest, options.largest, 3)
    growth: dict[int, tuple[float, float, float]] = {}
    for edges in map(int, sizes):
        write_graph(main, edges)
        turns = [(measure("end_to_end", main), measure("kernel", main)) for _ in range(min(options.runs, 2))]
        stages, bares = zip(*turns, strict=True)
        growth[edges] = best(stages, "stage_s"), best(bares, "kernels_s"), best(bares, "products")
    slopes = np.polyfit(np.log(list(growth)), np.log(list(growth.values())), 1)[0]
    least = {key: best(runs, key) for runs in (ends, kernels, peers) for key in runs[0] if key.endswith("_s")}
    stage_s, item_cf_s = (least["compile_s"] + least[key] for key in ("stage_s", "item_cf_s"))
    return {
        "ratio_to_kernel": round(stage_s / least["kernels_s"], 3),
        "item_cf_to_kernel": round(item_cf_s / least["item_kernel_s"], 3),
        "item_cf_to_implicit": round(item_cf_s / least["implicit_s"], 3),
        "peak_rss_mb": round(max(run["peak_rss_mb"] for run in ends)),
        **dict(zip(("growth_exponent", "kernels_exponent", "work_exponent"), slopes.round(3).tolist(), strict=True)),
        **{key: round(seconds, 2) for key, seconds in least.items()},
        "growth_s": {str(edges): [round(each, 2) for each in grown[:2]] for edges, grown in growth.items()},
        "edges": int(options.edges),
        **{key: kernels[0][key] for key in ("capped_edges", "products")},
    }


def main() -> None:
    """Run the benchmark, or with --measure one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=float, default=9.8e6)
    parser.add_argument("--smallest", type=float, default=1e5)
    parser.add_argument("--largest", type=float, default=1e7)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="star-bench-") as folder:
        if options.measure:
            print(json.dumps(MEASUREMENTS[options.measure[0]](Path(options.measure[1]), Path(folder))))
        else:
            print("RESULT " + json.dumps(benchmark(Path(folder), options)))


if __name__ == "__main__":
    main()
