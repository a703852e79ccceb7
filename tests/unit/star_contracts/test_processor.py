"""Number formats follow the processor."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_contracts import processor
from star_contracts.processor import parse, this_processor
from tests.support import processors


@pytest.mark.parametrize(
    ("cpuinfo", "feature", "number_format"),
    [
        (processors.AVX2, "", "float32"),
        (processors.AVX512, "", "float32"),
        (processors.AVX512_BF16, "avx512_bf16", "bfloat16"),
        (processors.AMX, "amx_bf16", "bfloat16"),
        (processors.ARM_WITHOUT, "", "float32"),
        (processors.ARM_BF16, "bf16", "bfloat16"),
        (processors.UNEQUAL, "", "float32"),
        ("", "", "float32"),
        ("processor : 0\nflags without a colon\n:::\n", "", "float32"),
    ],
)
def test_auto_is_bfloat16_where_the_processor_multiplies_it(cpuinfo: str, feature: str, number_format: str) -> None:
    found = parse(cpuinfo)
    choice = found.choose()
    assert (found.bfloat16, choice.number_format, choice.slow) == (feature, number_format, False)
    assert (feature or "none of amx_bf16, avx512_bf16, bf16") in choice.because


def test_what_is_asked_for_by_name_is_taken_and_said_to_be_slow_where_it_is() -> None:
    old, new = parse(processors.AVX2), parse(processors.AVX512_BF16)
    emulated = old.choose("bfloat16")
    assert (emulated.number_format, emulated.slow) == ("bfloat16", True)
    assert emulated.because.startswith("it was asked for; EPYC 7002 has none of ")
    for found, asked in ((new, "bfloat16"), (new, "float32"), (old, "float32"), (old, "float16")):
        assert (found.choose(asked).number_format, found.choose(asked).slow) == (asked, False)


def test_where_linux_does_not_say_float32_is_right(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    assert this_processor().choose().number_format == "float32"


@given(st.lists(st.text() | st.sampled_from(["flags : avx512_bf16", "Features\t: bf16", "model name : x"])))
def test_whatever_linux_says_is_read(lines: list[str]) -> None:
    assert parse("\n".join(lines)).choose().number_format in ("bfloat16", "float32")


def test_this_machine_says_what_it_is() -> None:
    assert this_processor().features, "Linux names the features of every processor we run on"
