"""`/v1/recommend`: prepare the task, let the student answer (its tool calls answered on the way), say what came of it.

An answer that does not rank every candidate exactly once is never repaired. When none of the sampled
answers is valid, the response says `valid: false`, `source: fallback`, and gives the candidates in the order in which
the caller sent them: a caller's retrieval order is the best that is known then, and it is not made to look like the
student's.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from star_contracts.errors import Reason
from star_contracts.serving import GatewayConfig
from star_contracts.settings import Sampling
from star_jobs.errors import JobFailure
from star_jobs.llm.failures import EndpointBusy
from star_jobs.serve.backends import BackendHandle, BackendPool
from star_jobs.serve.catalogue import Catalogue
from star_jobs.serve.consensus import closest, merged
from star_jobs.serve.metrics import Metrics
from star_jobs.serve.models import (
    RankedItem,
    RankSource,
    Recommendation,
    RecommendRequest,
    TokenUsage,
    ToolCallMade,
)
from star_jobs.serve.problems import Problem, no_server, of_failure
from star_jobs.serve.reasoning import sections
from star_jobs.serve.task import PreparedTask, prepare
from star_jobs.trajectory.student import StudentAnswer, answer

_LONG_HISTORY = 200


@dataclass(frozen=True)
class Caller:
    """Who asks: for routing, and for finding the request again."""

    request_id: str
    pinned: str | None = None
    """Revision asked for by name."""


@dataclass(frozen=True)
class Recommender:
    """Everything a recommendation is made with: one consistent view of configuration and data."""

    config: GatewayConfig
    catalogue: Catalogue
    pool: BackendPool
    metrics: Metrics

    async def recommend(self, request: RecommendRequest, caller: Caller) -> Recommendation:
        """Answer one request. Raises Problem: the caller's fault (422), no backend (503), past the deadline (504)."""
        started = asyncio.get_running_loop().time()
        prepared = await self._prepared(request)
        deadline = min(request.deadline_seconds or self.config.deadline_seconds, self.config.deadline_seconds)
        try:
            async with asyncio.timeout(deadline):
                handle, answers = await self._ask_awake(request, caller, prepared)
        except TimeoutError:
            if self.pool.asleep:
                raise no_server(deadline) from None
            raise Problem(
                504,
                "deadline",
                f"no answer within {deadline:g} s; send fewer candidates or a smaller best_of, "
                "or raise the deployment's gateway.deadlineSeconds.",
            ) from None
        seconds = asyncio.get_running_loop().time() - started
        return self._response(request, caller, prepared, Answered(handle, answers, seconds))

    async def _prepared(self, request: RecommendRequest) -> PreparedTask:
        work = partial(prepare, request, self.catalogue, self.config.max_candidates)
        # Others are answered while a long history is gone through.
        return await asyncio.to_thread(work) if len(request.history or ()) > _LONG_HISTORY else work()

    async def _ask_awake(
        self, request: RecommendRequest, caller: Caller, prepared: PreparedTask
    ) -> tuple[BackendHandle, list[StudentAnswer]]:
        """Ask once a backend is up, where the servers are scaled to nothing; one that goes meanwhile is waited for."""
        while True:
            moment = await self.pool.awake()
            try:
                return await self._ask(request, caller, prepared)
            except Problem:
                if not self.pool.slept_since(moment):
                    raise

    async def _ask(
        self, request: RecommendRequest, caller: Caller, prepared: PreparedTask
    ) -> tuple[BackendHandle, list[StudentAnswer]]:
        """Ask the user's backend, and the next one while they cannot be reached."""
        handles = self.pool.order(request.user_id or caller.request_id, caller.pinned)
        count = request.best_of or self.config.best_of
        failure: Problem | None = None
        for handle in handles:
            try:
                async with handle.lease():
                    return handle, await self._sample(handle, prepared, count)
            except JobFailure as error:
                failure = of_failure(error, handle.backend.revision)
                if error.reason is not Reason.LLM_UNREACHABLE or isinstance(error, EndpointBusy):
                    break
                self.pool.failed(handle, error.message)
        assert failure is not None  # the configuration has at least one backend that takes traffic
        raise failure

    async def _sample(self, handle: BackendHandle, prepared: PreparedTask, count: int) -> list[StudentAnswer]:
        """Sample the answers at once; the first that fails ends the others."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._answer(handle, prepared, index)) for index in range(count)]
        except* JobFailure as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _answer(self, handle: BackendHandle, prepared: PreparedTask, index: int) -> StudentAnswer:
        toolbox = self.catalogue.toolbox if self.config.max_tool_calls else None
        return await answer(
            handle.client,
            prepared.task,
            self.catalogue.dataset.items,
            toolbox,
            _seeded(self.config.sampling, index),
            self.config.max_tool_calls,
        )

    def _response(
        self, request: RecommendRequest, caller: Caller, prepared: PreparedTask, answered: "Answered"
    ) -> Recommendation:
        valid = [one for one in answered.answers if one.valid]
        self._count(answered)
        ranking = merged([one.ranking for one in valid]) if valid else request.candidates
        shown = valid[closest(ranking, [one.ranking for one in valid])] if valid else answered.answers[0]
        backend = answered.handle.backend
        reasoning = sections(shown.text) if request.explain else []
        return Recommendation(
            request_id=caller.request_id,
            user_id=request.user_id,
            ranking=self._ranked(ranking[: request.top_k]),
            source=RankSource.STUDENT if valid else RankSource.FALLBACK,
            valid=bool(valid),
            answers=len(answered.answers),
            valid_answers=len(valid),
            reasoning=reasoning,
            format_error=shown.format_error,
            text=shown.text if request.explain and not reasoning else None,
            tool_calls=_tool_calls(shown) if request.explain else [],
            revision=backend.revision,
            checkpoint=backend.checkpoint,
            usage=total_usage(answered.answers),
            latency_seconds=round(answered.seconds, 4),
            warnings=prepared.warnings,
        )

    def _ranked(self, ranking: Sequence[str]) -> list[RankedItem]:
        items = self.catalogue.dataset.items
        return [RankedItem(rank=rank, item_id=item, title=items[item].title) for rank, item in enumerate(ranking, 1)]

    def _count(self, answered: "Answered") -> None:
        revision = answered.handle.backend.revision
        for one in answered.answers:
            self.metrics.answers.labels(revision, str(one.valid).lower()).inc()
            for call in one.tool_calls:
                self.metrics.tool_calls.labels(revision, str(call.tool)).inc()
        usage = total_usage(answered.answers)
        self.metrics.tokens.labels(revision, "prompt").inc(usage.prompt_tokens)
        self.metrics.tokens.labels(revision, "completion").inc(usage.completion_tokens)


@dataclass(frozen=True)
class Answered:
    """The student's answers to one request."""

    handle: BackendHandle
    answers: list[StudentAnswer]
    seconds: float


def total_usage(answers: Sequence[StudentAnswer]) -> TokenUsage:
    """Add up what the answers cost."""
    return TokenUsage(
        prompt_tokens=sum(one.usage.prompt_tokens for one in answers),
        completion_tokens=sum(one.usage.completion_tokens for one in answers),
        calls=sum(one.usage.calls for one in answers),
    )


def _seeded(sampling: Sampling, index: int) -> Sampling:
    """Give each of several answers its own seed: with one seed they would all be the same answer."""
    if sampling.seed is None or index == 0:
        return sampling
    return sampling.model_copy(update={"seed": sampling.seed + index})


def _tool_calls(one: StudentAnswer) -> list[ToolCallMade]:
    return [ToolCallMade(tool=call.tool, argument=call.argument, response=call.response) for call in one.tool_calls]
