"""The precision of training follows the devices, and on CPUs the node's processor."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import CapturingLogger

from star_contracts.artifact import ArtifactRef
from star_contracts.job import ModelSource, TrainSFT
from star_contracts.processor import Processor, parse
from star_contracts.settings import GRPOBackend, Precision, SFTHyperparameters, Sharding, Variant
from star_jobs.grpo.verl.overrides import Plan, overrides
from star_jobs.models.folder import ModelFolder
from star_jobs.sft.arguments import arguments
from star_jobs.training.precision import choose, figures, settle
from tests.support import processors
from tests.unit.star_jobs.grpo.stages import stage as grpo

REF = ArtifactRef(uri="s3://star/a", digest="sha256:" + "0" * 64)
OLD, NEW = parse(processors.AVX2), parse(processors.AVX512_BF16)
AUTO, BF16, FP32 = Precision.AUTO, Precision.BF16, Precision.FP32
MODEL = ModelFolder(Path("/m"), "llama", "LlamaForCausalLM", chatml=True)


def sft(precision: Precision = AUTO, devices: int = 0) -> TrainSFT:
    settings = SFTHyperparameters(precision=precision, sharding=Sharding.ZERO2 if devices else Sharding.NONE)
    source = ModelSource(artifact=REF)
    values: dict[str, Any] = {"variant": Variant.FULL, "hyperparameters": settings, "devices_per_node": devices}
    return TrainSFT(model=source, trajectories=REF, dataset=REF, **values)


@pytest.mark.parametrize(
    ("precision", "devices", "processor", "chosen", "slow"),
    [
        (AUTO, 0, OLD, FP32, False),
        (AUTO, 0, NEW, BF16, False),
        (AUTO, 8, OLD, BF16, False),
        (BF16, 0, OLD, BF16, True),
        (BF16, 0, NEW, BF16, False),
        (BF16, 8, OLD, BF16, False),
        (FP32, 0, NEW, FP32, False),
        (FP32, 8, NEW, FP32, False),
    ],
)
def test_sft(precision: Precision, devices: int, processor: Processor, chosen: Precision, slow: bool) -> None:
    found = choose(sft(precision, devices), processor)
    assert (found.number_format, found.slow) == (chosen.value, slow)


@pytest.mark.parametrize(
    ("backend", "devices", "processor", "chosen"),
    [
        (GRPOBackend.SWIFT, 0, OLD, FP32),
        (GRPOBackend.SWIFT, 0, NEW, BF16),
        (GRPOBackend.VERL, 0, OLD, FP32),
        # The rollout on a CPU computes in float32, whatever the processor.
        (GRPOBackend.VERL, 0, NEW, FP32),
        (GRPOBackend.SWIFT, 8, OLD, BF16),
        (GRPOBackend.VERL, 8, OLD, BF16),
    ],
)
def test_grpo(backend: GRPOBackend, devices: int, processor: Processor, chosen: Precision) -> None:
    assert choose(grpo(devices=devices, backend=backend), processor).number_format == chosen.value


def test_the_default_reaches_the_engines_as_what_was_chosen_and_is_said() -> None:
    log: Any = CapturingLogger()
    for processor, flag in ((OLD, "false"), (NEW, "true")):
        found = arguments(settle(sft(), processor, log), MODEL, Path("/d"), Path("/o"), None)
        assert found[found.index("--bf16") + 1] == flag
        assert found[found.index("--torch_dtype") + 1] == "float32"
    said = [(call.method_name, call.kwargs["asked"], call.kwargs["computes_in"]) for call in log.calls]
    assert said == [("info", "auto", "float32"), ("info", "auto", "bfloat16")]


def test_emulation_is_a_warning() -> None:
    log: Any = CapturingLogger()
    assert settle(sft(BF16), OLD, log) == sft(BF16)
    (call,) = log.calls
    assert call.method_name == "warning"
    assert "float32 is many times as fast" in call.kwargs["because"]


PLAN = Plan(
    model=Path("/m"),
    prompts=Path("/p"),
    agent_loop=Path("/a"),
    reward=Path("/r"),
    checkpoints=Path("/c"),
    batch=4,
    mini_batch=4,
    steps=1,
    epochs=1,
    template_arguments={},
)


@pytest.mark.parametrize(("precision", "compute", "taken"), [(AUTO, "fp32", "true"), (BF16, "bf16", "false")])
def test_verl_takes_the_rollouts_probabilities_only_where_the_trainer_computes_the_same(
    precision: Precision, compute: str, taken: str
) -> None:
    log: Any = CapturingLogger()
    found = overrides(settle(grpo(precision=precision), NEW, log), PLAN)
    for model in ("actor", "ref"):
        assert f"+actor_rollout_ref.{model}.fsdp_config.mixed_precision.param_dtype='{compute}'" in found
    assert f"algorithm.rollout_correction.bypass_mode={taken}" in found


def test_metrics_name_the_format_in_bits() -> None:
    assert [figures(one)["precisionBits"] for one in (BF16, FP32)] == [16.0, 32.0]
