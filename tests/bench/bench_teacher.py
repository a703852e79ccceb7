"""How much of the engine's throughput the teacher uses: MARS against an engine, then its prompts straight at it.

    make bench-teacher                                        a real vLLM on the CPU, SmolLM2-135M
    make bench-teacher ARGS='--engine simulated'              an engine of fixed service times: our own overhead alone

The whole stage `generate-trajectories` runs (MovieLens tasks, all agents and tools, records into a real S3 server),
and every request is noted where the client hands it to the network. Then the same requests are sent to the same engine
in the same order and with as many in flight, by a client that does nothing else. Each gets the engine freshly started:
neither finds prompts in its prefix cache, or grammars compiled, that the other left there. The last line is the result:

    RESULT {"fraction_of_engine": ..., "teacher_tokens_per_s": ..., "engine_tokens_per_s": ..., ...}

fraction_of_engine    teacher_tokens_per_s / engine_tokens_per_s; tokens are those of prompts and answers together
teacher_s             the stage from its start to its end: inputs, prompts, tools, answers, records
replay_s              the same requests straight at the engine
teacher_cpu_s         processor time of the teacher's process during the stage
"""

import argparse
import asyncio
import cProfile
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import openai

from star_contracts.artifact import ArtifactKind, ArtifactRef
from star_contracts.data import Item, RankingTask, Signal, SignalCategory, SignalKind
from star_contracts.job import GenerateTrajectories, LLMEndpoint, PrepareDataset
from star_contracts.settings import Agents, DatasetFormat, LeakageRules, Sampling, TaskSettings, TrajectoryFilter
from star_jobs.datasets.snapshot import Dataset
from star_jobs.lookup import write_store
from star_jobs.storage import ObjectStore
from tests.bench.engines import MODEL_NAME, vllm_engine
from tests.support.fakellm import MODEL as SIMULATED_MODEL
from tests.support.jobs import JobRunner, environment
from tests.support.movielens import movielens_100k
from tests.support.s3 import start_s3
from tests.support.simengine import ServiceTimes, simulated_engine
from tests.support.world import publish

_NEIGHBOURS = 20
_CATEGORIES = 3
_TIMEOUT_SECONDS = 1800.0


@dataclass
class Call:
    """One request as it went to the engine."""

    body: bytes
    started: float
    ended: float = 0.0
    tokens: int = 0
    """Of prompt and answer, as the engine counted them."""


@dataclass
class Recording:
    """Every request of a run, in order of sending."""

    calls: list[Call] = field(default_factory=list)

    def tokens(self) -> int:
        """Tokens of all requests and answers."""
        return sum(call.tokens for call in self.calls)

    def seconds(self) -> float:
        """From the first request to the last answer."""
        return max(call.ended for call in self.calls) - min(call.started for call in self.calls)

    def in_flight(self) -> float:
        """Requests in flight on average between the first and the last."""
        return sum(call.ended - call.started for call in self.calls) / self.seconds()


@contextmanager
def recorded() -> Iterator[Recording]:
    """Note every chat request of this process: what is sent, when, and what the engine counted."""
    recording = Recording()
    original = openai.AsyncOpenAI.post

    async def post(self: openai.AsyncOpenAI, path: str, *, content: bytes, **arguments: Any) -> Any:
        call = Call(content, time.perf_counter())
        recording.calls.append(call)
        response = await original(self, path, content=content, **arguments)
        call.ended = time.perf_counter()
        call.tokens = response.json()["usage"]["total_tokens"]
        return response

    openai.AsyncOpenAI.post = post  # type: ignore[method-assign,assignment]
    try:
        yield recording
    finally:
        openai.AsyncOpenAI.post = original  # type: ignore[method-assign]


async def replay(url: str, bodies: list[bytes], concurrency: int) -> Recording:
    """Send the bodies in their order, `concurrency` at a time."""
    recording = Recording()
    source = iter(bodies)
    headers = {"content-type": "application/json", "authorization": "Bearer none"}

    async def worker(session: aiohttp.ClientSession) -> None:
        for body in source:
            call = Call(body, time.perf_counter())
            recording.calls.append(call)
            async with session.post(f"{url}/chat/completions", data=body, headers=headers) as response:
                answer = await response.json()
            call.ended = time.perf_counter()
            call.tokens = answer["usage"]["total_tokens"]

    limits = aiohttp.TCPConnector(limit=concurrency)
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(connector=limits, timeout=timeout) as session:
        await asyncio.gather(*(worker(session) for _ in range(concurrency)))
    return recording


@dataclass(frozen=True)
class Inputs:
    """What the stage works on."""

    dataset: ArtifactRef
    signals: ArtifactRef


def prepare(jobs: JobRunner, options: argparse.Namespace) -> Inputs:
    """Make the dataset by its own stage and a look-up store of realistic size."""
    for path in movielens_100k().iterdir():
        jobs.store.upload(path, f"{jobs.uri}/source/{path.name}")
    stage = PrepareDataset(
        format=DatasetFormat.MOVIELENS,
        source=f"{jobs.uri}/source",
        tasks=TaskSettings(candidates=options.candidates, train=options.tasks, test=1, history_length=options.history),
        leakage=LeakageRules(),
    )
    done = jobs.run(stage, step="dataset", output="dataset")
    dataset = Dataset(jobs.fetch(done.artifact))
    folder = jobs.folder / "signals"
    write_store(folder, signals(dataset))
    return Inputs(done.artifact, publish(jobs.store, f"{jobs.uri}/signals", folder, ArtifactKind.VERBALIZATION))


def signals(dataset: Dataset) -> Iterator[Signal]:
    """A signal for each item and user of the tasks, in the words of the items' genres.

    What they say does not matter here: their number and length are those of a real verbalization.
    """
    tasks = dataset.tasks("train")
    everything = list(dataset.items)
    for at, item in enumerate(everything):
        near = [everything[(at + step) % len(everything)] for step in range(1, _NEIGHBOURS + 1)]
        yield Signal(kind=SignalKind.ITEM_CF, key=item, categories=_words(near, dataset), neighbours=tuple(near))
    for task in {task.user_id: task for task in tasks}.values():
        near = _near(task)
        yield Signal(
            kind=SignalKind.USER_CF, key=task.user_id, categories=_words(near, dataset), neighbours=tuple(near)
        )


def _near(task: RankingTask) -> list[str]:
    return list(dict.fromkeys([*(entry.item_id for entry in task.history), *task.candidates]))[:_NEIGHBOURS]


def _words(near: list[str], dataset: Dataset) -> tuple[SignalCategory, ...]:
    items = [item for name in near if (item := dataset.items.get(name)) is not None]
    genres = Counter(genre for item in items for genre in item.categories)
    return tuple(_category(genre, items) for genre, _ in genres.most_common(_CATEGORIES))


def _category(genre: str, items: list[Item]) -> SignalCategory:
    shown = [item.item_id for item in items if genre in item.categories][:5]
    summary = f"{len(shown)} of {len(items)} are {genre} films that the same people watch in the same weeks"
    return SignalCategory(name=genre, summary=summary, representative_items=tuple(shown))


def teach(jobs: JobRunner, inputs: Inputs, endpoint: LLMEndpoint, options: argparse.Namespace) -> dict[str, float]:
    """Run the stage as its pod would; return its metrics and what it took."""
    stage = GenerateTrajectories(
        dataset=inputs.dataset,
        signals=inputs.signals,
        llm=endpoint,
        agents=Agents(lookup_rounds=1),
        passes=options.passes,
        sampling=Sampling(max_tokens=options.max_tokens, seed=1),
        filter=TrajectoryFilter.HIT_AT_1,
    )
    profile = cProfile.Profile() if options.profile else None
    started, cpu = time.perf_counter(), time.process_time()
    if profile:
        profile.enable()
    done = jobs.run(stage, step="generate")
    if profile:
        profile.disable()
        profile.dump_stats(options.profile)
    spent = {"teacher_s": time.perf_counter() - started, "teacher_cpu_s": time.process_time() - cpu}
    if done.code:
        raise RuntimeError(f"the teacher failed: {done.error.message}")
    return dict(done.result.metrics) | spent


@contextmanager
def engine(options: argparse.Namespace, folder: Path) -> Iterator[LLMEndpoint]:
    """The engine that was asked for, freshly started."""
    if options.engine == "simulated":
        times = ServiceTimes(options.concurrency, options.token_ms / 1000, options.prefill_rate)
        with simulated_engine(times) as url:
            yield LLMEndpoint(base_url=url, model=SIMULATED_MODEL, concurrency=options.concurrency)
        return
    with vllm_engine(folder / "vllm.log", max_model_len=2048) as url:
        yield LLMEndpoint(base_url=url, model=MODEL_NAME, concurrency=options.concurrency)


def measure(jobs: JobRunner, options: argparse.Namespace) -> dict[str, float]:
    """Teach, replay, compare."""
    inputs = prepare(jobs, options)
    with engine(options, jobs.folder) as endpoint, recorded() as teacher:
        taught = teach(jobs, inputs, endpoint, options)
    bodies = [call.body for call in teacher.calls]
    replays = []
    for _ in range(options.replays):
        with engine(options, jobs.folder) as endpoint:
            replays.append(asyncio.run(replay(endpoint.base_url, bodies, options.concurrency)))
    engine_rate = statistics.median(played.tokens() / played.seconds() for played in replays)
    teacher_rate = teacher.tokens() / taught["teacher_s"]
    return {
        "fraction_of_engine": teacher_rate / engine_rate,
        "teacher_tokens_per_s": teacher_rate,
        "engine_tokens_per_s": engine_rate,
        "teacher_s": taught["teacher_s"],
        "replay_s": statistics.median(played.seconds() for played in replays),
        "teacher_cpu_s": taught["teacher_cpu_s"],
        "teacher_in_flight": teacher.in_flight(),
        "concurrency": options.concurrency,
        "requests": len(bodies),
        "trajectories": taught["made"],
        "tokens": teacher.tokens(),
    }


def arguments() -> argparse.Namespace:
    """What to run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("vllm", "simulated"), default="vllm")
    parser.add_argument("--tasks", type=int, default=100, help="training tasks")
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--candidates", type=int, default=5)
    parser.add_argument(
        "--history", type=int, default=12, help="interactions; beyond 6 (50 above 10 candidates) summed up"
    )
    parser.add_argument("--concurrency", type=int, default=8, help="requests in flight; slots of the simulated engine")
    parser.add_argument("--max-tokens", type=int, default=128, help="up to 256 the agents are brief")
    parser.add_argument("--token-ms", type=float, default=20.0, help="simulated engine: time for a generated token")
    parser.add_argument("--prefill-rate", type=float, default=20000.0, help="simulated engine: prompt tokens a second")
    parser.add_argument("--replays", type=int, default=1, help="the median counts")
    parser.add_argument("--profile", default="", help="write a cProfile of the teacher here (slows it down)")
    return parser.parse_args()


def main() -> int:
    """Run it once, and print the result."""
    options = arguments()
    with ExitStack() as stack:
        server = stack.enter_context(start_s3())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="star-bench-")))
        stack.enter_context(environment(server.environment()))
        figures = measure(JobRunner(server, ObjectStore(server.store()), server.new_uri("bench"), folder), options)
    print("RESULT", json.dumps({name: round(value, 4) for name, value in figures.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
