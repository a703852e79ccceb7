"""A small world for the trajectory tests: items, a task, a look-up store, and a teacher's run."""

import json
from typing import Any

from star_contracts.data import (
    AgentStep,
    Interaction,
    Item,
    RankingTask,
    Signal,
    SignalCategory,
    SignalKind,
    TaskType,
    ToolExchange,
    Trajectory,
)

ITEMS = {
    str(n): Item(item_id=str(n), title=f"Film {n} (199{n % 10})", categories=("Drama", "War") if n % 2 else ("Comedy",))
    for n in range(1, 41)
}
CANDIDATES = ("7", "3", "12", "30", "21")
TASK = RankingTask(
    task_id="t1",
    type=TaskType.CLASSIC,
    user_id="u9",
    candidates=CANDIDATES,
    seed=5,
    history=tuple(Interaction(item_id=str(n), timestamp=1000 + n, rating=4.0) for n in range(31, 40)),
    profile={"age": "24", "gender": "F"},
)
SIGNALS = {
    (SignalKind.ITEM_CF, "7"): Signal(
        kind=SignalKind.ITEM_CF,
        key="7",
        categories=(SignalCategory(name="War epics", summary="Long films", representative_items=("3",)),),
    ),
}


class Store:
    """A look-up store in memory."""

    def get(self, kind: SignalKind, key: str) -> Signal | None:
        return SIGNALS.get((kind, key))


def step(
    agent: str, output: Any, revision: int = 0, thinking: str = "", tools: tuple[ToolExchange, ...] = ()
) -> AgentStep:
    return AgentStep(agent=agent, output=json.dumps(output), revision=revision, thinking=thinking, tools=tools)


LOOKED_UP = ToolExchange(tool=SignalKind.ITEM_CF, argument="7", response="War epics: Film 3")
PROBLEM = {"agent_name": "recent_analysis", "suggestion": "say more"}

RUN = Trajectory(
    task_id="t1",
    pass_index=0,
    steps=(
        step("planner", ["user_profile", "recent_analysis"]),
        step("user_profile", ["likes war films"], tools=(LOOKED_UP,), thinking="they rate war films high"),
        step("recent_analysis", ["comedies"]),
        step("reflection", {"correct": "no", "problematic_agent": [PROBLEM]}),
        step("recent_analysis", ["war comedies"], revision=1),
        step("recommend", ["7", "3", "12", "30", "21"]),
    ),
    ranking=CANDIDATES,
    hit_rank=1,
    kept=True,
)
