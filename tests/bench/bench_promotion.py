"""How long a promotion takes beside what is meant to take time.

    make bench-promotion   or   .venv/bin/python -m tests.bench.bench_promotion [--files 5000] [--rounds 20] [--ways 3]

Git, the forge (Gitea), Argo CD, the API server with its controllers, the operator and `star-job promote` are real. Pods
are played, and so are training, measuring and serving: what a node takes to pull an image and to start a container is
not in these figures, and no store is read. Nothing is polled by the API meanwhile: resources are watched, and the
branch's end is read from the file that Gitea keeps it in. The last line is the result:

    RESULT {"commit_p50_s": ..., "commit_over_git": ..., "sync_s": ..., "overhead_s": ..., "parts": {...}, ...}

commit_p50_s, _p90_s  a Promotion (mode Commit) is created -> the branch ends at its commit, in a repository of --files
                      files with a history of 100 commits; --rounds of them, one after the other
commit_start_s        of that, until the Job's program begins (median)
git_p50_s             the same by git alone, in turn with the promotions, as the leanest script would: a shallow,
                      sparse clone without blobs, an edit, commit, push; from its start, nobody had to start it
checkout_p50_s        with a plain shallow clone, as most such scripts have it
commit_over_git       commit_p50_s / git_p50_s
sync_s, _max_s    the branch ends at a commit -> Argo CD says that the Application is Synced to it, where a webhook
                      tells of pushes: ten commits that change an annotation in dev
way_sync_s        the same of the commits and merges on the ways
overhead_s            a checkpoint's whole way (the median of --ways): its Checkpoint is there -> it is committed to dev
                      -> dev serves it -> soak -> pull request -> it is merged at once -> prod serves it. Not counted:
                      the soak (5 s), and when its Evaluations ran (the pipeline's last stage, and the two gates)
overhead_max_s        of the slowest way
parts                 what overhead_s is the sum of: seconds to each of these moments from the one before
whole_s               all of that way; soak_s and gates_s are what is not counted of it
"""

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.promotioncommits import measure_commits
from tests.bench.promotionways import measure_syncs, measure_ways
from tests.bench.promotionworld import opened
from tests.support.watching import watching_tip


def benchmark(files: int, rounds: int, ways: int) -> dict[str, Any]:
    """Measure commits, syncs and ways."""
    temporary = tempfile.TemporaryDirectory(prefix="star-bench-", ignore_cleanup_errors=True)
    with temporary as folder, opened(Path(folder)) as world:
        commits = measure_commits(world, files, rounds)
        with watching_tip(world.repositories / "recommender.git") as tip:
            syncs = measure_syncs(world, tip)
            found = measure_ways(world, tip, ways)
    sync = {"sync_s": round(median(syncs), 2), "sync_max_s": round(max(syncs), 2)}
    return {**commits, **sync, **found}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--ways", type=int, default=3)
    options = parser.parse_args()
    print("RESULT " + json.dumps(benchmark(options.files, options.rounds, options.ways)))


if __name__ == "__main__":
    main()
