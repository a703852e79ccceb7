"""Processors as Linux describes them in /proc/cpuinfo, cut down to what is read of it."""

from pathlib import Path

import pytest

from star_contracts import processor

_X86 = "fpu sse sse2 ssse3 fma sse4_1 sse4_2 f16c avx avx2"
_AVX512 = f"{_X86} avx512f avx512dq avx512bw avx512vl avx512_vnni"


def x86(name: str, *cores: str) -> str:
    """A processor of x86-64: the flags of each core."""
    entries = [f"processor\t: {n}\nmodel name\t: {name}\nflags\t\t: {flags}\n" for n, flags in enumerate(cores)]
    return "\n".join(entries)


def arm(*cores: str) -> str:
    """A processor of ARM: the features of each core."""
    return "\n".join(f"processor\t: {n}\nBogoMIPS\t: 50.00\nFeatures\t: {found}\n" for n, found in enumerate(cores))


AVX2 = x86("EPYC 7002", _X86, _X86)
AVX512 = x86("Cascade Lake", _AVX512, _AVX512)
AVX512_BF16 = x86("EPYC 9004", f"{_AVX512} avx512_bf16", f"{_AVX512} avx512_bf16")
AMX = x86("Sapphire Rapids", f"{_AVX512} avx512_bf16 amx_bf16 amx_tile amx_int8")
ARM_WITHOUT = arm("fp asimd aes crc32 asimdhp asimddp", "fp asimd aes crc32 asimdhp asimddp")
ARM_BF16 = arm("fp asimd asimddp sve i8mm bf16 svebf16")
UNEQUAL = arm("fp asimd bf16", "fp asimd")


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, cpuinfo: str) -> None:
    """Let the code under test see another processor than this machine's."""
    file = folder / "cpuinfo"
    file.write_text(cpuinfo)
    monkeypatch.setattr(processor, "CPUINFO", file)
