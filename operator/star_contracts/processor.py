"""Which number format a processor computes neural networks in, read from what Linux says of it (proc_cpuinfo(5)).

bfloat16 is fast where matrices of it are multiplied by instructions of their own: AMX and AVX-512 BF16 on x86-64,
FEAT_BF16 on ARM. Elsewhere every product is emulated, which takes many times as long as float32.
"""

from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
AUTO = "auto"
BFLOAT16, FLOAT32 = "bfloat16", "float32"
BFLOAT16_FEATURES = ("amx_bf16", "avx512_bf16", "bf16")
"""What the kernel calls these instructions: two names of x86-64, one of ARM."""
_CORE = ("flags", "features")
"""What the line of a core's features is called: on x86-64, on ARM."""


@dataclass(frozen=True)
class Choice:
    """A number format, and why it is that."""

    number_format: str
    because: str
    slow: bool = False
    """It was asked for by name, and this processor has to emulate it."""


@dataclass(frozen=True)
class Processor:
    """A machine's processor."""

    name: str
    features: frozenset[str]
    """What all of its cores can do, by the kernel's names."""

    @property
    def bfloat16(self) -> str:
        """The feature by which it multiplies matrices of bfloat16; empty when it has none."""
        return next((name for name in BFLOAT16_FEATURES if name in self.features), "")

    def choose(self, asked: str = AUTO) -> Choice:
        """Return the format to compute in: of `auto` bfloat16 where that is fast, else float32, fast everywhere."""
        if asked == AUTO and self.bfloat16:
            return Choice(BFLOAT16, f"{self.name} has {self.bfloat16}")
        lacks = f"{self.name} has none of {', '.join(BFLOAT16_FEATURES)}"
        if asked == AUTO:
            return Choice(FLOAT32, lacks)
        if asked == BFLOAT16 and not self.bfloat16:
            return Choice(
                asked, f"it was asked for; {lacks}: float32 is many times as fast, and auto takes it", slow=True
            )
        return Choice(asked, "it was asked for")


def parse(cpuinfo: str) -> Processor:
    """Return the processor that a text like /proc/cpuinfo describes; where cores differ, what all have counts."""
    split = [line.partition(":") for line in cpuinfo.splitlines()]
    fields = [(name.strip().lower(), value.strip()) for name, colon, value in split if colon]
    cores = [frozenset(value.lower().split()) for name, value in fields if name in _CORE]
    name = next((value for name, value in fields if name == "model name" and value), "this processor")
    return Processor(name, frozenset.intersection(*cores) if cores else frozenset())


def this_processor() -> Processor:
    """Return the processor of this machine; one without features where Linux does not say."""
    try:
        return parse(CPUINFO.read_text(errors="replace"))
    except OSError:
        return parse("")
