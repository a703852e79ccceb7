"""One run of MARS over one task: plan, analyse with tools, reflect and revise, rank (paper 3.2, F.1).

All agents of a run share the beginning of their prompts (the same system message, then user, history and candidates),
so that a server with a prefix cache reads a task once. The candidates are put in an order of their own for each run:
what a model likes about a place in a list must not look like what a user likes.
"""

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from star_contracts.data import AgentStep, ToolExchange, Trajectory, Usage
from star_contracts.settings import Sampling, TrajectoryFilter, Variant
from star_jobs.llm.client import cost_of
from star_jobs.llm.failures import RequestRefused
from star_jobs.llm.messages import ChatMessage
from star_jobs.llm.structured import JsonSchema
from star_jobs.llm.usage import add_usage
from star_jobs.teacher import agents
from star_jobs.teacher.agents import InvalidOutput, Ranked
from star_jobs.teacher.earlier import request_key
from star_jobs.teacher.records import ModelAnswer, RunRecord
from star_jobs.teacher.team import Team
from star_jobs.teacher.templates import render
from star_jobs.teacher.worklist import WorkItem, derived_seed
from star_jobs.trajectory.format import ANALYSTS, PLANNER, RECOMMEND, REFLECTION, FormatError, parse, render_json
from star_jobs.trajectory.prompt import (
    CHAT_TEMPLATE_ARGUMENTS,
    describe_candidates,
    describe_past,
    describe_user,
    shown,
    student_messages,
    style_of,
)
from star_jobs.trajectory.reward import hit_rank
from star_jobs.trajectory.tools import ToolBox, ToolCall

ATTEMPTS = 2
"""Times an agent is asked before its part is done without it."""
CALLS = 3
"""Look-ups in one round."""
BRIEF_CALLS = 1

T = TypeVar("T")


async def run_mars(team: Team, item: WorkItem, truth: str) -> RunRecord:
    """Run the team over one task and record it.

    A request that the endpoint refuses (too long for the model) ends this run alone; raises every other JobFailure.
    """
    started = time.monotonic()
    before = await asyncio.to_thread(team.earlier.answers, item.task.task_id, item.pass_index)
    run = _Run(team, item, before)
    trajectory: Trajectory | None = None
    failure = ""
    try:
        trajectory = await run.trajectory(truth)
    except RequestRefused as error:
        failure = error.message
    return RunRecord(
        task_id=item.task.task_id,
        task_type=item.task.type,
        pass_index=item.pass_index,
        trajectory=trajectory,
        failure=failure,
        ranked=trajectory is not None and bool(trajectory.ranking),
        repaired=run.repaired,
        outputs=run.outputs,
        invalid=run.invalid,
        left_out=run.left_out,
        answers=tuple(run.answers),
        saved=run.saved,
        cost=run.cost,
        seconds=round(time.monotonic() - started - run.waited, 3),
        gpus=team.gpus,
    )


class _Run:
    """The state of one run: what has been found so far, and what it took."""

    def __init__(self, team: Team, item: WorkItem, before: Mapping[str, ModelAnswer]) -> None:
        candidates = list(item.task.candidates)
        random.Random(item.seed).shuffle(candidates)  # noqa: S311 - reproducible, not secret
        self.team = team
        self.item = item
        self.before = before
        """What an earlier run of the same task and pass was answered, by request."""
        self.answers: list[ModelAnswer] = []
        self.saved = Usage()
        """What the answers cost that were taken over."""
        self.task = shown(item.task, team.summaries).model_copy(update={"candidates": tuple(candidates)})
        self.style = style_of(len(candidates))
        self.tastes = agents.tastes(self.task, team.items) if team.brief else []
        self.left_out = 0
        self.options = self._options()
        self.context = self._context()
        self.findings: dict[str, list[str]] = {}
        self.looked_up: dict[str, list[ToolExchange]] = {}
        """By agent: what its finding, as it stands, is based on."""
        self.steps: list[AgentStep] = []
        self.usage = Usage()
        self.cost = 0.0
        self.waited = 0.0
        """Seconds in which its calls waited for those of other runs, less those that answers taken over once took."""
        self.outputs = 0
        self.invalid = 0
        self.repaired = False

    async def trajectory(self, truth: str) -> Trajectory:
        plan = await self._plan() if self.team.agents.planner else list(ANALYSTS)
        for analyst in plan:
            await self._analyse(analyst)
        if self.team.agents.reflector:
            await self._reflect(plan)
        ranking = await self._rank()
        rank = hit_rank(ranking, truth)
        keeps = rank == 1 if self.team.filter is TrajectoryFilter.HIT_AT_1 else bool(ranking)
        return Trajectory(
            task_id=self.task.task_id,
            pass_index=self.item.pass_index,
            steps=tuple(self.steps),
            ranking=ranking,
            hit_rank=rank,
            kept=keeps,
            usage=self.usage,
            model=self.team.clients[RECOMMEND].endpoint.model,
            seed=self.item.seed,
        )

    async def _plan(self) -> list[str]:
        planned = await self._student_plan() if self.team.own_planner else None
        if planned is None:
            instruction = render(PLANNER, brief=self.team.brief)
            planned = await self._ask(PLANNER, instruction, agents.plan_schema(self.team.brief), agents.read_plan)
        thinking, plan = planned or ("", list(ANALYSTS))
        self._record(PLANNER, plan, thinking)
        return plan

    async def _student_plan(self) -> tuple[str, list[str]] | None:
        """Ask a planner trained on plans in the words it was trained with (variant PlannerOnly)."""
        prompt = student_messages(self.task, self.team.items, Variant.PLANNER_ONLY)
        text = await self._complete(PLANNER, prompt, None, "own")
        try:
            parsed = parse(text, Variant.PLANNER_ONLY)
        except FormatError:
            self._count(valid=False, agent=PLANNER)
            return None
        self._count(valid=True, agent=PLANNER)
        return parsed.thinking, list(parsed.plan)

    async def _analyse(self, analyst: str, suggestion: str = "", revision: int = 0) -> None:
        previous = self.findings.pop(analyst, [])
        brief, criticism = self.team.brief, ""
        if revision:
            criticism = "\n" + render("revision", brief=brief, previous=previous or ["nothing"], suggestion=suggestion)
        exchanges = await self._look_up(analyst, criticism, revision)
        found = await self._ask(
            analyst,
            render(analyst, brief=brief) + criticism,
            agents.analysis_schema(brief, self.tastes),
            agents.read_analysis,
            str(revision),
        )
        thinking, conclusions = found or ("", previous)
        self.findings[analyst] = conclusions
        self._record(analyst, conclusions, thinking, exchanges, revision)

    async def _look_up(self, agent: str, criticism: str = "", revision: int = 0) -> tuple[ToolExchange, ...]:
        """Let an agent look things up, round by round, until it asks for nothing more (paper F.3)."""
        toolbox = self.team.toolbox
        # Brief revisions and rankings keep to the evidence there is: a look-up would cost as much as they do.
        if toolbox is None or (self.team.brief and (revision or agent == RECOMMEND)):
            return ()
        # A revision looks up anew, as in F.3: its section has to stand where the first one is left out.
        self.looked_up[agent] = []
        for index in range(self.team.agents.lookup_rounds):
            found = await self._round(agent, toolbox, criticism, f"tools/{revision}/{index}")
            if not found:
                break
            self.looked_up[agent] += found
        return tuple(self.looked_up[agent])

    async def _round(self, agent: str, toolbox: ToolBox, criticism: str, turn: str) -> list[ToolExchange]:
        """Let an agent choose among the look-ups that its prompt does not answer yet, and answer them."""
        known = {ToolCall(exchange.tool, exchange.argument) for exchange in self._evidence(agent)}
        options = [call for call in self.options if call not in known]
        if not options:
            return []
        limit = BRIEF_CALLS if self.team.brief else CALLS
        chosen = await self._ask(
            agent,
            render("tools", brief=self.team.brief, title=agents.TITLES[agent]) + criticism,
            agents.calls_schema(options, limit),
            lambda answer: agents.read_calls(answer, options, limit),
            turn,
        )
        thinking, calls = chosen or ("", [])
        return [
            ToolExchange(
                tool=call.tool,
                argument=call.argument,
                response=toolbox.answer(call, self.style.tool_chars),
                thinking=thinking if call == calls[0] else "",
            )
            for call in calls
        ]

    async def _reflect(self, plan: Sequence[str]) -> None:
        """Review the findings and have them revised, `max_revisions` times at most."""
        rounds = max(1, self.team.agents.max_revisions)
        for index in range(rounds):
            reviewed = await self._ask(
                REFLECTION,
                render(REFLECTION, brief=self.team.brief),
                agents.reflection_schema(plan, self.team.brief),
                lambda answer: agents.read_reflection(answer, plan),
                str(index),
            )
            thinking, suggestions = reviewed or ("", {})
            self._record(REFLECTION, agents.reflection_payload(suggestions), thinking, revision=index)
            if not suggestions or index >= self.team.agents.max_revisions:
                return
            for analyst, suggestion in suggestions.items():
                await self._analyse(analyst, suggestion, revision=index + 1)

    async def _rank(self) -> tuple[str, ...]:
        """Look up what is still missing, and rank the candidates; empty when no answer names one."""
        exchanges = await self._look_up(RECOMMEND)

        def read(answer: dict[str, Any]) -> Ranked:
            return agents.read_ranking(answer, self.task.candidates, self.item.seed)

        schema = agents.ranking_schema(self.task.candidates, self.team.brief)
        ranked = await self._ask(RECOMMEND, render(RECOMMEND, brief=self.team.brief), schema, read)
        if ranked is None:
            return ()
        thinking, answer = ranked
        self.repaired = answer.repaired
        self._record(RECOMMEND, list(answer.ranking), thinking, exchanges)
        return answer.ranking

    def _record(
        self,
        agent: str,
        output: Any,
        thinking: str,
        tools: tuple[ToolExchange, ...] = (),
        revision: int = 0,
    ) -> None:
        self.steps.append(
            AgentStep(agent=agent, thinking=thinking, output=render_json(output), tools=tools, revision=revision)
        )

    async def _ask(
        self,
        agent: str,
        instruction: str,
        schema: JsonSchema,
        read: Callable[[dict[str, Any]], T],
        turn: str = "",
    ) -> tuple[str, T] | None:
        """Ask an agent until its answer can be read, `ATTEMPTS` times at most; return its reasoning and answer."""
        messages = self._messages(agent, instruction)
        for attempt in range(ATTEMPTS):
            text = await self._complete(agent, messages, schema, f"{turn}/{attempt}")
            try:
                answer = _json_object(text)
                value = read(answer)
            except InvalidOutput:
                self._count(valid=False, agent=agent)
                continue
            self._count(valid=True, agent=agent)
            return agents.text_of(answer.get("thinking")), value
        return None

    def _messages(self, agent: str, instruction: str) -> list[ChatMessage]:
        evidence = render("evidence", findings=self.findings, looked_up=self._evidence(agent))
        parts = [self.context, evidence, instruction]
        return [
            {"role": "system", "content": render("system")},
            {"role": "user", "content": "\n\n".join(part for part in parts if part)},
        ]

    def _context(self) -> str:
        """Return what all prompts of the run begin with."""
        return render(
            "context",
            user=describe_user(self.task, self.style),
            history=describe_past(self.task, self.team.items, self.style),
            candidates=describe_candidates(self.task.candidates, self.team.items, self.style),
        )

    def _options(self) -> list[ToolCall]:
        """Return the look-ups that have an answer and can be written; count those that cannot."""
        toolbox = self.team.toolbox
        if toolbox is None:
            return []
        known = [call for call in agents.call_options(self.task, self.style.history) if toolbox.knows(call)]
        options = [call for call in known if call.can_be_written]
        self.left_out = len(known) - len(options)
        return options

    def _evidence(self, agent: str) -> list[ToolExchange]:
        """Return the look-ups that an agent's prompt shows: an analyst's own, for the others everybody's."""
        if agent in ANALYSTS:
            return self.looked_up.get(agent, [])
        exchanges = {(e.tool, e.argument): e for found in self.looked_up.values() for e in found}
        return list(exchanges.values())

    async def _complete(self, agent: str, messages: list[ChatMessage], schema: JsonSchema | None, turn: str) -> str:
        seed = derived_seed(f"{self.item.seed}/{agent}/{turn}")
        sampling: Sampling = self.team.sampling.model_copy(update={"seed": seed})
        client = self.team.clients[agent]
        arguments = None if schema else CHAT_TEMPLATE_ARGUMENTS
        key = request_key(client.endpoint.model, messages, sampling, schema, arguments)
        answer = self.before.get(key)
        if answer is None:
            asked = time.monotonic()
            await client.wait_ready()
            starting = time.monotonic() - asked
            reply = await client.chat(messages, sampling=sampling, schema=schema, template_arguments=arguments)
            seconds = time.monotonic() - asked - starting - reply.waited
            answer = ModelAnswer(key=key, text=reply.text, usage=reply.usage, seconds=round(seconds, 3))
            self.waited += starting + reply.waited
            self.cost += cost_of(reply.usage, client.endpoint)
        else:
            self.waited -= answer.seconds
            self.saved = add_usage(self.saved, answer.usage)
        self.answers.append(answer)
        self.usage = add_usage(self.usage, answer.usage)
        return answer.text

    def _count(self, *, valid: bool, agent: str) -> None:
        self.outputs += 1
        self.invalid += not valid
        self.team.tally.count(valid=valid, model=self.team.clients[agent].endpoint.model)


def _json_object(text: str) -> dict[str, Any]:
    """Return the JSON object of an answer, with or without a code fence around it."""
    start, end = text.find("{"), text.rfind("}")
    try:
        answer = json.loads(text[start : end + 1]) if start >= 0 else None
    except (ValueError, RecursionError) as error:
        raise InvalidOutput("not JSON") from error
    if not isinstance(answer, dict):
        raise InvalidOutput("not a JSON object")
    return answer
