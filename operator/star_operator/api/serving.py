"""How a checkpoint is served, wherever the checkpoint is given elsewhere in the spec."""

from pydantic import Field

from star_contracts.base import Model
from star_contracts.settings import MAX_TOKENS
from star_operator.api.common import OWN_FLAGS, Compute, EngineFlag
from star_operator.api.meta import CEL


class ServerTemplate(Model):
    """A vLLM server for a checkpoint named elsewhere: `llm.server` without its model."""

    model_config = CEL(
        (
            "self.compute.gpusPerNode == 0 || self.tensorParallelSize == self.compute.gpusPerNode * self.compute.nodes",
            "tensorParallelSize must equal compute.nodes x compute.gpusPerNode",
        ),
        (
            "self.compute.gpusPerNode != 0 || self.tensorParallelSize == 1",
            "tensorParallelSize above 1 needs compute.gpusPerNode",
        ),
        OWN_FLAGS,
    ).config()

    replicas: int = Field(default=1, ge=1, le=256)
    """Independent copies of the server behind one Service."""
    tensor_parallel_size: int = Field(default=1, ge=1, le=1024)
    """GPUs one layer is split over (`--tensor-parallel-size`)."""
    max_model_len: int | None = Field(default=None, ge=16, le=MAX_TOKENS)
    """Tokens of prompt and answer together (`--max-model-len`)."""
    dtype: str = Field(default="auto", pattern=r"^(auto|bfloat16|float16|float32)$")
    """Number format of weights and activations (`--dtype`). `auto` is the model's own on GPUs; on CPUs it is
    bfloat16 where the node's processor has instructions for it, else float32, which gives repeatable results there."""
    engine_args: tuple[EngineFlag, ...] = Field(default=(), max_length=32)
    """Further `vllm serve` flags, each `--name` or `--name=value` with the whole name: those that change how fast it
    serves, and those that the platform allows besides."""
    compute: Compute = Compute()
    """Where one replica runs; more than one node makes a group that works as one."""


class ServingTemplate(ServerTemplate):
    """The vLLM servers of a StarDeployment: scaled as one likes, to nothing too."""

    replicas: int = Field(default=1, ge=0, le=256)
    """Independent copies of the server behind one Service. With 0 the gateway holds requests until a server answers."""
