"""GGUF files, whole and otherwise."""

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_contracts.errors import Reason
from star_contracts.result import ErrorClass
from star_jobs.errors import TerminalFailure
from star_jobs.models.gguf import BrokenGGUF, check
from star_jobs.models.import_gguf import require_gguf


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def entry(kind: int = 0, offset: int = 0, *shape: int) -> bytes:
    """A tensor's entry."""
    return (
        text(b"w")
        + struct.pack("<I", len(shape))
        + struct.pack(f"<{len(shape)}Q", *shape)
        + struct.pack("<IQ", kind, offset)
    )


VALUES = [
    text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama"),
    text(b"general.alignment") + struct.pack("<II", 4, 64),
    text(b"tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text(b"a") + text("é".encode()),
    text(b"tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, 3) + bytes(12),
    text(b"nested") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 0, 2) + bytes(2),
    text(b"rope") + struct.pack("<If", 6, 1.5),
]


def write(folder: Path, *tensors: bytes, data: int = 0, version: int = 3) -> Path:
    """A GGUF file with these entries and so many bytes of data."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(VALUES)) + b"".join(VALUES) + b"".join(tensors)
    file = folder / "m.gguf"
    file.write_bytes(head + bytes(-len(head) % 64) + bytes(data))
    return file


@pytest.mark.parametrize(
    ("tensors", "data"),
    [
        ([entry(0, 0, 2, 2)], 16),
        ([entry(0, 0, 2, 2), entry(1, 64, 8)], 80),
        ([entry(8, 0, 64)], 68),
        ([entry(14, 0, 256, 2)], 420),
        ([entry(99, 32, 4)], 36),
    ],
)
def test_whole_files(tmp_path: Path, tensors: list[bytes], data: int) -> None:
    require_gguf(write(tmp_path, *tensors, data=data), "s3://star/m.gguf")


@pytest.mark.bad_input
@pytest.mark.parametrize("lost", [1, 16, 17, 60, 100, 200])
def test_a_file_that_is_cut_short(tmp_path: Path, lost: int) -> None:
    file = write(tmp_path, entry(0, 0, 2, 2), data=16)
    file.write_bytes(file.read_bytes()[:-lost])
    with pytest.raises(TerminalFailure, match=r"s3://star/m\.gguf is cut short.*upload the \.gguf itself") as raised:
        require_gguf(file, "s3://star/m.gguf")
    assert (raised.value.reason, raised.value.error_class) == (Reason.INVALID_MODEL, ErrorClass.TERMINAL)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 a zip file", r"is not a GGUF file \(it starts with b'PK"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is not a GGUF file"),
        (b"<html>", "is not a GGUF file"),
        (b"GGUF", "is cut short"),
        (b"GGUF" + struct.pack("<IQQ", 1, 1, 0), "is of GGUF version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 1, 0), "is of GGUF version 50331648"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "holds no tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "is cut short"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 2**63), "is cut short"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 2**62), "is cut short"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + text(b"k") + struct.pack("<I", 77), "a value of type 77"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text(b"w") + struct.pack("<I", 99), "99 dimensions"),
    ],
)
def test_what_is_no_gguf_file(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(BrokenGGUF, match=said):
        check(tmp_path / "m.gguf")


@pytest.mark.fuzz
@given(
    changes=st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=8)), max_size=3),
    end=st.integers(0, 500),
)
def test_any_bytes_are_a_whole_file_or_a_broken_one(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]], end: int
) -> None:
    file = write(tmp_path_factory.mktemp("g"), entry(0, 0, 2, 2), data=16)
    data = bytearray(file.read_bytes())
    for place, piece in changes:
        data[place : place + len(piece)] = piece
    file.write_bytes(bytes(data[:end]))
    with contextlib.suppress(BrokenGGUF):
        check(file)
