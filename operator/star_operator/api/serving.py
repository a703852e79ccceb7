"""How a checkpoint is served, wherever the checkpoint is given elsewhere in the spec."""

from pydantic import Field

from star_contracts.base import Model
from star_operator.api.common import Compute, EngineFlag


class ServerTemplate(Model):
    """A vLLM server for a checkpoint named elsewhere: `llm.server` without its model."""

    replicas: int = Field(default=1, ge=1, le=256)
    tensor_parallel_size: int = Field(default=1, ge=1, le=1024)
    max_model_len: int | None = Field(default=None, ge=16)
    """Tokens of prompt and answer together (`--max-model-len`)."""
    dtype: str = Field(default="auto", pattern=r"^(auto|bfloat16|float16|float32)$")
    engine_args: tuple[EngineFlag, ...] = Field(default=(), max_length=32)
    """Further `vllm serve` flags, each `--name` or `--name=value`."""
    compute: Compute = Compute()
