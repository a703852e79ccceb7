"""Parameters a user sets in a resource and a job obeys: one model each, used by the CRD and by the job spec alike."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from star_contracts.base import Model
from star_contracts.data import TaskType

Fraction = Annotated[float, Field(ge=0, le=1)]
Reward = Annotated[float, Field(ge=-1000, le=1000)]

MAX_SEED = 2**32 - 1
"""The largest seed that all libraries take (NumPy's RandomState: 32 bits)."""
MAX_TOKENS = 2**24
"""More than any model's context."""
MAX_TOOL_CALLS = 32
"""Tool calls answered in one answer of a student, in training, evaluation and serving: a bound on loops. The paper's
example makes 12 (F.3); a teacher of default settings 30 at most before revisions (five agents, two rounds of three)."""


class DatasetFormat(StrEnum):
    """What the source's files look like."""

    MOVIELENS = "MovieLens"
    """RecBole atomic files or the original `u.data`/`u.item` of MovieLens-100K."""
    AGENT_REC_BENCH = "AgentRecBench"
    """`user.json`, `item.json`, `review.json` (JSON Lines) with task and ground-truth folders."""


class Negatives(StrEnum):
    """How negative candidates are drawn."""

    UNIFORM = "Uniform"
    POPULARITY = "Popularity"
    """In proportion to an item's number of interactions: harder, as popularity alone no longer answers the task."""


class TaskSettings(Model):
    """Which ranking tasks are made of the interactions (paper 4.1, A.1, B.1)."""

    types: tuple[TaskType, ...] = Field(default=tuple(TaskType), min_length=1)
    """Task types; training tasks are balanced over them."""
    candidates: int = Field(default=20, ge=2, le=1000)
    """Candidates a task: 1 ground truth and the rest negatives."""
    negatives: Negatives = Negatives.UNIFORM
    """How negative candidates are drawn."""
    train: int = Field(default=1000, ge=0, le=100_000_000)
    """Training tasks in all."""
    test: int = Field(default=100, ge=1, le=10_000_000)
    """Test tasks for each task type."""
    test_renewal: float = Field(default=0.0, ge=0, le=10)
    """Test tasks stay until there are so many more interactions, as a share of those there were, and are drawn anew
    then: at the whole powers of 1 + testRenewal. In between they stand at the moments of that drawing, and items that
    came after it are no negatives. 0, or less than 0.001, draws anew whenever the source has
    changed."""
    history_length: int = Field(default=50, ge=1, le=10000)
    """Most recent interactions kept in a task's history."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of every draw and shuffle; recorded in each task."""


class LeakageRules(Model):
    """What must not be seen in training. All are on by default; switching one off is for measuring its effect."""

    drop_ground_truth_reviews: bool = True
    """Remove every review of a task's user on its ground-truth item."""
    truncate_history: bool = True
    """Cut a history at the first interaction with the ground truth (paper B.1)."""
    exclude_test_users: bool = True
    """Keep test users and their ground-truth items out of the training tasks (paper A.1)."""


class Weighting(StrEnum):
    """How co-occurrence is weighted into similarity."""

    COSINE = "Cosine"
    BM25 = "BM25"
    COUNT = "Count"


class NeighbourSettings(Model):
    """Neighbours in the user-item graph (paper 3.3)."""

    k: int = Field(default=20, ge=1, le=500)
    """Neighbours kept for each user and item."""
    max_degree: int = Field(default=500, ge=1, le=100_000)
    """Interactions of one node taken into account, most recent first: uncapped work grows with popularity squared."""
    weighting: Weighting = Weighting.COSINE
    """How co-occurrence is weighted into similarity."""
    tolerance: float = Field(default=0.0, ge=0, lt=1)
    """Share of a list of neighbours that may have changed before a refresh takes it anew, and has it put into words
    anew; 0 takes over what is unchanged alone. No list is kept whose user has new interactions, whose item has more new
    ones than this share of those it had, or that rests on an interaction that is held out now."""


class SignalScope(StrEnum):
    """For whom collaborative signals are verbalized."""

    ALL = "All"
    """Every user and every item."""
    TASKS = "Tasks"
    """Users of the dataset's tasks, and the items in their histories and candidates."""


class TaskSplit(StrEnum):
    """Which of a dataset's tasks."""

    TRAIN = "Train"
    """Training tasks, in balance over the task types."""
    TEST = "Test"
    """Test tasks: to measure with, never to train on."""


class Agents(Model):
    """Which of MARS's parts take part (paper Table 2, ablations)."""

    planner: bool = True
    """Pick and order the analysts; without it all four run in a fixed order."""
    reflector: bool = True
    """Verify the analysts' outputs and send them back for revision."""
    tools: bool = True
    """Let the analysts and the ranking agent look up collaborative signals."""
    lookup_rounds: int = Field(default=2, ge=1, le=5)
    """Rounds of look-ups an analyst or the ranking agent may make before it answers, each chosen in view of what the
    last one found; asking for none ends them. The paper's example shows two (F.3). Brief agents (sampling.maxTokens up
    to 256) look nothing up for a revision or the ranking."""
    max_revisions: int = Field(default=1, ge=0, le=5)
    """Rounds of revision the reflector may ask for."""


class Sampling(Model):
    """How an LLM is sampled. The defaults are the paper's (appendix B.2)."""

    temperature: float = Field(default=0.7, ge=0, le=2)
    """0 always takes the likeliest token."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Share of the probability mass that is sampled from."""
    max_tokens: int = Field(default=2048, ge=1, le=MAX_TOKENS)
    """Tokens generated at most in one call."""
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)
    """Makes sampling repeatable where the engine allows it."""


class TrajectoryFilter(StrEnum):
    """Which trajectories are kept for training (paper 3.4.1)."""

    HIT_AT_1 = "HitAt1"
    """Those that rank the ground truth first."""
    NONE = "None"
    """All."""


class Variant(StrEnum):
    """What a trajectory is serialized into for training (paper Table 3)."""

    FULL = "Full"
    WITHOUT_TOOLS = "WithoutTools"
    WITHOUT_PLANNER = "WithoutPlanner"
    WITHOUT_REFLECTOR = "WithoutReflector"
    PLANNER_ONLY = "PlannerOnly"


class Precision(StrEnum):
    """Floating-point format of the computation in training."""

    AUTO = "auto"
    """bfloat16 on GPUs and on processors with instructions for it, float32 on others: known once the run has a node."""
    BF16 = "bfloat16"
    FP32 = "float32"

    def on(self, devices: int) -> "Precision":
        """Return what is known of it before there is a node: on GPUs, `auto` is bfloat16."""
        return Precision.BF16 if self is Precision.AUTO and devices > 0 else self


class Sharding(StrEnum):
    """DeepSpeed ZeRO stage of the optimizer; `None` trains on one device without DeepSpeed."""

    NONE = "None"
    ZERO2 = "ZeRO2"
    ZERO3 = "ZeRO3"


class SFTHyperparameters(Model):
    """Supervised fine-tuning. Defaults: paper appendix Table 4."""

    epochs: float = Field(default=2, gt=0, le=1000)
    """Passes over the trajectories; may be a fraction."""
    max_steps: int | None = Field(default=None, ge=1, le=100_000_000)
    """Stop after this many optimizer steps, whatever `epochs` says."""
    global_batch_size: int = Field(default=64, ge=1, le=65_536)
    """Sequences an optimizer step, over all devices."""
    micro_batch_size: int = Field(default=2, ge=1, le=4096)
    """Sequences a device works on at once; accumulation follows from the global size."""
    learning_rate: float = Field(default=1e-5, gt=0, le=1)
    """Peak learning rate."""
    warmup_ratio: Fraction = 0.05
    """Share of the steps over which the learning rate rises."""
    max_length: int = Field(default=16384, ge=16, le=MAX_TOKENS)
    """Tokens of prompt and answer together; longer sequences are left out and counted."""
    precision: Precision = Precision.AUTO
    """Number format of the computation; the optimizer's weights stay in float32. `auto` is bfloat16 on GPUs and on
    processors that have instructions for it, float32 on others."""
    sharding: Sharding = Sharding.ZERO2
    """How DeepSpeed spreads the optimizer over the GPUs; `None` on CPUs."""
    save_steps: int = Field(default=50, ge=1, le=1_000_000)
    """Steps between resumable checkpoints; a killed pod loses at most this many."""
    seed: int = Field(default=42, ge=0, le=MAX_SEED)
    """Seed of shuffling and initialization."""


class Rewards(Model):
    """The composite reward (paper equations 2 and 3)."""

    format_valid: Reward = 1.0
    """For an answer of the right format."""
    format_invalid: Reward = -1.0
    """For any other answer."""
    top1: Reward = 1.0
    """For the ground truth in first place."""
    top3: Reward = 2 / 3
    """For the ground truth in second or third place."""
    top5: Reward = 1 / 3
    """For the ground truth in fourth or fifth place."""


class DifficultyMix(Model):
    """Share of easy, medium and hard instances in the RL set (paper A.1: 3:4:3)."""

    easy: int = Field(default=3, ge=0, le=1000)
    """Instances solved 6-7 times of 8 (in general: over 5/8, but not always)."""
    medium: int = Field(default=4, ge=0, le=1000)
    """Solved 3-5 times of 8."""
    hard: int = Field(default=3, ge=0, le=1000)
    """Solved 1-2 times of 8."""


class DifficultySampling(Model):
    """How the RL set is chosen from the dataset's training tasks."""

    samples: int = Field(default=8, ge=1, le=64)
    """Responses sampled an instance from the starting checkpoint."""
    mix: DifficultyMix = DifficultyMix()
    """Shares of the difficulty classes."""
    instances: int = Field(default=500, ge=1, le=10_000_000)
    """Instances kept at most."""
    tasks: int | None = Field(default=None, ge=1, le=100_000_000)
    """Training tasks tried at most; all by default."""
    keep_unsolved: bool = False
    """Fill up with instances never or always solved when too few lie between (small models need it)."""


class GRPOHyperparameters(Model):
    """Group relative policy optimization. Defaults: paper appendix Table 5."""

    learning_rate: float = Field(default=1e-6, gt=0, le=1)
    """Of the policy."""
    kl_coefficient: float = Field(default=0.001, ge=0, le=100)
    """Weight of the KL term towards the starting checkpoint."""
    group_size: int = Field(default=8, ge=2, le=1024)
    """Rollouts an instance (G)."""
    temperature: float = Field(default=0.7, gt=0, le=2)
    """Of the rollouts; above 0, or all rollouts of a group would be equal."""
    train_batch_size: int = Field(default=32, ge=1, le=65_536)
    """Instances a step."""
    mini_batch_size: int = Field(default=4, ge=1, le=65_536)
    """Instances an optimizer update; a step makes trainBatchSize / miniBatchSize updates."""
    micro_batch_size: int = Field(default=4, ge=1, le=4096)
    """Sequences a device works on at once."""
    max_prompt_length: int = Field(default=6000, ge=16, le=MAX_TOKENS)
    """Tokens; longer prompts are left out."""
    max_response_length: int = Field(default=8192, ge=16, le=MAX_TOKENS)
    """Tokens a rollout may generate, tool answers included."""
    tensor_parallel_size: int = Field(default=2, ge=1, le=1024)
    """Of the rollout engine."""
    epochs: int = Field(default=1, ge=1, le=1000)
    """Passes over the RL set."""
    max_steps: int | None = Field(default=None, ge=1, le=100_000_000)
    """Stop after this many steps, whatever `epochs` says."""
    save_steps: int = Field(default=20, ge=1, le=1_000_000)
    """Steps between resumable checkpoints; a killed pod loses at most this many."""
    precision: Precision = Precision.AUTO
    """Number format of the computation. `auto` is bfloat16 on GPUs; on CPUs float32 with verl, and with ms-swift
    bfloat16 where the processor has instructions for it."""
    seed: int = Field(default=42, ge=0, le=MAX_SEED)
    """Seed of shuffling and sampling."""


class GRPOBackend(StrEnum):
    """Which framework runs GRPO."""

    VERL = "verl"
    SWIFT = "ms-swift"


class Baseline(StrEnum):
    """Recommenders without an LLM, reported beside the model."""

    RANDOM = "random"
    IDENTITY = "identity"
    """The candidates in the order given: shows whether the order leaks the answer."""
    POPULARITY = "popularity"
    ITEM_CF = "itemcf"
    """The sum of cosines with all items of the history."""
    ITEM_KNN_COSINE = "itemknn_cosine"
    """ItemKNN: as `itemcf`, where every item keeps its 100 nearest items only."""
    ITEM_KNN_BM25 = "itemknn_bm25"
    """ItemKNN with BM25 weights."""
    ALS = "als"
    """Matrix factorization by alternating least squares, 64 factors."""
    LIGHTGCN = "lightgcn"
    """LightGCN, 3 layers of 64 dimensions; trains on the spot, so the evaluator runs in the trainer's image."""


CHEAP_BASELINES = (Baseline.RANDOM, Baseline.IDENTITY, Baseline.POPULARITY, Baseline.ITEM_CF)
"""Those that need no learning."""


class SingleAgent(StrEnum):
    """The paper's single-agent baselines (4.1): an untrained model under one prompt, without tools."""

    BASE = "Base"
    """Ranks at once."""
    CHAIN_OF_THOUGHT = "ChainOfThought"
    """Reasons step by step, then ranks."""
    MEMORY = "Memory"
    """Notes what is worth remembering of the history, then ranks by the notes and the latest interactions."""
    CHAIN_OF_THOUGHT_MEMORY = "ChainOfThoughtMemory"
    """Both."""


class EvaluationSettings(Model):
    """What is measured, and on what (paper 4.1, B, C)."""

    types: tuple[TaskType, ...] = Field(default=tuple(TaskType), min_length=1)
    """Task types; those the dataset does not have are an error."""
    samples: int | None = Field(default=None, ge=1, le=100_000_000)
    """Test tasks for each type at most; all by default."""
    best_of: int = Field(default=1, ge=1, le=64)
    """Answers sampled a task; the report gives best-of-k for k = 1, 2, 4, ... up to this."""
    baselines: tuple[Baseline, ...] = CHEAP_BASELINES
    """Recommenders without an LLM, measured on the same tasks; those that learn something are asked for by name."""
    tools: bool = True
    """Let the student look up collaborative signals while it answers."""
    bootstrap: int = Field(default=1000, ge=100, le=100000)
    """Resamples for the confidence intervals."""
    sampling: Sampling = Sampling()
    """How the model is sampled."""
    variant: Variant = Variant.FULL
    """Which phases the student was trained to write: what counts as well-formed. With tools false, WithoutTools."""
    single_agent: SingleAgent | None = None
    """Ask the model by a single-agent prompt instead of as a trained student; needs tools false."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of the draw of test tasks and of the bootstrap."""
