"""Records that cross stages: items, interactions, tasks, look-up entries and trajectories (JSON Lines in artifacts)."""

from enum import StrEnum

from pydantic import Field

from star_contracts.base import Model


class TaskType(StrEnum):
    """The five task types of AgentRecBench (paper 4.1, Table 1)."""

    CLASSIC = "classic"
    USER_COLD_START = "user_cold_start"
    ITEM_COLD_START = "item_cold_start"
    LONG_TERM = "long_term"
    SHORT_TERM = "short_term"


class Item(Model):
    """An item of the catalogue."""

    item_id: str
    title: str
    categories: tuple[str, ...] = ()
    attributes: dict[str, str] = {}
    """Everything else worth showing to a model, e.g. `year`, `average_rating`."""


class Interaction(Model):
    """One user-item event, as it stands in a history."""

    item_id: str
    timestamp: int
    """Unix time in seconds."""
    rating: float | None = None
    text: str = ""
    """The review's text, where the source has one."""


class RankingTask(Model):
    """Rank the candidates for one user (paper 3.1 and B.1). The answer is kept in a separate file."""

    task_id: str
    type: TaskType
    user_id: str
    candidates: tuple[str, ...] = Field(min_length=2)
    """Item ids, shuffled with `seed`: 1 ground truth + N negatives."""
    seed: int
    history: tuple[Interaction, ...]
    """Oldest first, cut before the first interaction with the ground truth (paper B.1)."""
    profile: dict[str, str] = {}
    """What the user table tells about the user."""


class GroundTruth(Model):
    """The answer of a task."""

    task_id: str
    item_id: str


class SignalKind(StrEnum):
    """The two collaborative tools (paper 3.3); the value is the tool's name in a tool call."""

    ITEM_CF = "Item-CF"
    USER_CF = "User-CF"


class SignalCategory(Model):
    """One group of related items, in words (paper F.2)."""

    name: str
    summary: str
    representative_items: tuple[str, ...] = Field(default=(), max_length=5)


class Signal(Model):
    """A verbalized collaborative signal: what the look-up store returns for a key."""

    kind: SignalKind
    key: str
    """Item id for Item-CF, user id for User-CF."""
    categories: tuple[SignalCategory, ...]
    neighbours: tuple[str, ...] = ()
    """The item ids the text was made from, strongest first."""
    made_from: str = ""
    """Hash of all that decided the text; a refresh takes over entries whose hash is still the same."""
    snapshot: str = ""
    """Digest of the dataset in which the neighbours were found: an earlier one where they are kept within a
    tolerance; empty where that was not recorded."""


class Summary(Model):
    """The beginning of a user's history in words (paper 3.2, E): what the look-up store returns for its key."""

    key: str
    """Hash of the user and of the items of that beginning, in their order."""
    text: str
    """At most 500 words; empty when no model could give any."""
    made_from: str = ""
    """As a signal's."""


class Usage(Model):
    """Tokens spent."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0


class ToolExchange(Model):
    """One tool call and its answer."""

    tool: SignalKind
    argument: str
    """Item id or user id."""
    response: str
    thinking: str = ""
    """The teacher's reasoning that led to this call; of several calls made at once, the first one has it."""


class AgentStep(Model):
    """One agent's turn in a MARS run."""

    agent: str
    """`planner`, `reflection`, `recommend` or an analyst: `user_profile`, `historical_analysis`, `recent_analysis`,
    `interest_divergence`."""
    thinking: str = ""
    """The reasoning that led to `output`."""
    output: str
    tools: tuple[ToolExchange, ...] = ()
    """Look-ups before the output, in order, over all rounds."""
    revision: int = 0
    """0 for the first turn, n for the n-th revision asked for by the reflector."""


class Trajectory(Model):
    """One MARS run over one task: structured, so that every variant can be serialized from it (paper 3.4.1)."""

    task_id: str
    pass_index: int
    """Which of the several passes over the sample (paper A.1)."""
    steps: tuple[AgentStep, ...]
    ranking: tuple[str, ...]
    """Candidate ids, best first."""
    hit_rank: int | None
    """1-based rank of the ground truth in `ranking`; None when it is missing."""
    kept: bool
    """True when the filter keeps it for training (Hit@1)."""
    usage: Usage = Usage()
    model: str = ""
    seed: int = 0
