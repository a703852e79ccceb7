"""A CPU platform for verl, loaded by `VERL_USE_EXTERNAL_MODULES` in each of its processes.

verl 0.9 knows CUDA, ROCm and NPU alone. Importing this module adds, with verl itself untouched:

- the platform `cpu` (chosen by VERL_PLATFORM=cpu), with gloo for collectives;
- its FSDP engine for the device `cpu`: with FSDP2, that engine has nothing of CUDA in it;
- the rollout `star_hf` (`cpu_rollout`): generation with transformers.

It serves small machines and tests: one worker, float32.
"""

import contextlib
import types
from typing import Any

import torch
import torch.distributed
from verl.plugin.platform import PlatformRegistry
from verl.plugin.platform.platform_base import PlatformBase

from star_jobs.grpo.verl.overrides import CPU_ROLLOUT

NAME = "cpu"
_MODULE = "star_jobs.grpo.verl.cpu_rollout"


class CpuDevice(types.ModuleType):
    """What `torch.cuda` is to CUDA: a namespace of device functions, most of which do nothing on a CPU."""

    def __init__(self) -> None:
        super().__init__("torch_cpu_device")
        self.Stream = torch.cpu.Stream
        self.stream = torch.cpu.stream
        self.current_stream = torch.cpu.current_stream
        self.synchronize = torch.cpu.synchronize
        self.get_rng_state = torch.get_rng_state
        self.set_rng_state = torch.set_rng_state

    def is_available(self) -> bool:
        """A CPU is always there."""
        return True

    def is_initialized(self) -> bool:
        """Nothing to set up."""
        return True

    def device_count(self) -> int:
        """Return 1: all cores are one device."""
        return 1

    def current_device(self) -> torch.device:
        """Return the device."""
        return torch.device(NAME)

    def set_device(self, _device: int) -> None:
        """There is one device."""

    def empty_cache(self) -> None:
        """There is no cache."""

    def set_per_process_memory_fraction(self, *_arguments: Any) -> None:
        """There is no limit to set."""

    def get_device_name(self, *_arguments: Any) -> str:
        """Return the device's name."""
        return NAME

    def mem_get_info(self, *_arguments: Any) -> tuple[int, int]:
        """Return (free, total) bytes of the machine's memory."""
        import psutil

        memory = psutil.virtual_memory()
        return memory.available, memory.total

    def memory_allocated(self, *_arguments: Any) -> int:
        """Return this process's resident bytes."""
        import psutil

        return int(psutil.Process().memory_info().rss)

    max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated


@PlatformRegistry.register(platform=NAME)
class CpuPlatform(PlatformBase):  # type: ignore[misc] # verl is not typed
    """The machine's cores as one device (verl, `PlatformBase`)."""

    def __init__(self) -> None:
        self._device = CpuDevice()

    @property
    def device_name(self) -> str:
        """Return torch's name of the device type."""
        return NAME

    @property
    def vendor_name(self) -> str:
        """Return the vendor's name; engines are registered by device, not by vendor."""
        return NAME

    @property
    def device_module(self) -> types.ModuleType:
        """Return the namespace of device functions."""
        return self._device

    def is_available(self) -> bool:
        """A CPU is always there."""
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        """Never chosen by detection: a machine with GPUs has a CPU as well."""
        return False

    def current_device(self) -> torch.device:
        """Return the device; its index would mean nothing to `Tensor.to`."""
        return torch.device(NAME)

    def device_count(self) -> int:
        """Return 1."""
        return 1

    def set_device(self, device_index: int) -> None:
        """There is one device."""

    def synchronize(self, device_index: int | None = None) -> None:
        """Work on a CPU is done when the call returns."""

    def manual_seed(self, seed: int) -> None:
        """Seed torch's generator."""
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        """Seed torch's generator."""
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        """The allocator is the system's."""

    def empty_cache(self) -> None:
        """There is no cache."""

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        """Return (None, None): a CPU has no compute capability."""
        return None, None

    def communication_backend_name(self) -> str:
        """Return torch.distributed's backend for CPUs."""
        return "gloo"

    def visible_devices_envvar(self) -> str:
        """Return a variable that nothing reads."""
        return "STAR_VISIBLE_CPUS"

    def nvtx_range(self, msg: str) -> contextlib.AbstractContextManager[None]:
        """No profiler to tell."""
        return contextlib.nullcontext()

    def profiler_start(self) -> None:
        """No profiler."""

    def profiler_stop(self) -> None:
        """No profiler."""

    def ray_resource_name(self) -> str:
        """Return `GPU`: verl counts that resource alone, and the job tells Ray of one logical GPU."""
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        """Ray must leave no device variable alone."""
        return []

    def is_ipc_supported(self) -> bool:
        """Weights go through Ray's object store, not through device memory handles."""
        return False

    def cudart(self) -> Any:
        """There is no CUDA runtime."""
        return None


def accept_doubled_backend() -> None:
    """Let torch.distributed take verl's `cpu:gloo,cpu:gloo`.

    verl always names a backend for the CPU and one for the device; where they are the same torch refuses the pair.
    """
    original = torch.distributed.init_process_group

    def init_process_group(backend: str | None = None, *arguments: Any, **options: Any) -> None:
        if backend == "cpu:gloo,cpu:gloo":
            backend = "gloo"
        original(backend, *arguments, **options)

    torch.distributed.init_process_group = init_process_group


def register_engine() -> None:
    """Register verl's FSDP engine for the device `cpu`."""
    from verl.workers.engine.base import EngineRegistry
    from verl.workers.engine.fsdp import transformer_impl

    engine = transformer_impl.FSDPEngineWithLMHead
    EngineRegistry.register(model_type="language_model", backend="fsdp2", device=NAME)(engine)
    # The engine moves a reference policy (kl_coefficient > 0) to pinned host memory, which takes a driver to pin.
    transformer_impl.CPUOffloadPolicy = _stay_where_it_is


def _stay_where_it_is(**_options: Any) -> Any:
    """Return the policy that offloads nothing: the weights are in the host's memory already."""
    from torch.distributed.fsdp import OffloadPolicy

    return OffloadPolicy()


def register_rollout() -> None:
    """Register the Hugging Face rollout: its adapter in the trainer and its server."""
    from verl.workers.rollout import base
    from verl.workers.rollout.replica import RolloutReplicaRegistry

    # verl has no function for this registry; it is a plain dictionary of class paths.
    base._ROLLOUT_REGISTRY[(CPU_ROLLOUT, "async")] = f"{_MODULE}.TrainerSide"

    def load() -> type:
        from star_jobs.grpo.verl.cpu_rollout import Replica

        return Replica

    RolloutReplicaRegistry.register(CPU_ROLLOUT, load)


accept_doubled_backend()
register_engine()
register_rollout()
