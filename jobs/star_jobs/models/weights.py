"""Weights as safetensors (format: github.com/huggingface/safetensors, README): whole files, and whole sets of them.

Only headers are read: they say how long a file has to be and which tensors it holds.
"""

import json
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from star_jobs.models.files import LFS_ADVICE, LFS_POINTER, ModelFiles

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_HEADER_LIMIT = 100_000_000
"""Bytes of a header, as the format's own library has it."""
_DIMENSIONS = 64
_SIZES = {8: ("F64", "I64", "U64"), 4: ("F32", "I32", "U32"), 2: ("F16", "BF16", "I16", "U16"), 1: ("I8", "U8", "BOOL")}
_BYTES = {name: size for size, names in _SIZES.items() for name in names}
"""Bytes of a number; formats that are not listed (eight bits and less, of several layouts) are not checked."""
_LARGEST = 2**63
_SHARD = re.compile(r"[^/\\]+\.safetensors")
_TOLERANCE = 0.01
"""Share by which an index's total may be off: writers count tied weights and buffers in different ways."""


class BrokenWeights(ValueError):
    """A file that is no whole safetensors file; the text completes "a file that ..."."""


@dataclass(frozen=True)
class Tensor:
    """One entry of a header."""

    parameters: int
    begin: int
    end: int


def read_header(file: Path) -> dict[str, Tensor]:
    """Return a file's tensors by name, having checked that it has all the bytes they need. Raises BrokenWeights."""
    try:
        size = file.stat().st_size
        with file.open("rb") as data:
            start = data.read(8)
            if not start:
                raise BrokenWeights("is empty")
            if LFS_POINTER.startswith(start):
                raise BrokenWeights("is a Git LFS pointer")
            if len(start) < 8:
                raise BrokenWeights("is cut short in its first bytes")
            (length,) = struct.unpack("<Q", start)
            if length > _HEADER_LIMIT:
                raise BrokenWeights("is no safetensors file")
            text = data.read(length)
    except FileNotFoundError:
        raise BrokenWeights("is not there") from None
    except OSError as error:
        raise BrokenWeights(f"cannot be read ({error.strerror})") from error
    if len(text) < length:
        raise BrokenWeights("is cut short in its header")
    tensors = _parse(text)
    needed = 8 + length + max((tensor.end for tensor in tensors.values()), default=0)
    if size != needed:
        raise BrokenWeights(f"{'is cut short' if size < needed else 'is too long'} ({size} of {needed} bytes)")
    return tensors


def is_whole_safetensors(file: Path) -> bool:
    """Tell whether a safetensors file has all the bytes its header promises."""
    try:
        read_header(file)
    except BrokenWeights:
        return False
    return True


def parameter_count(weights: Iterable[Path]) -> int:
    """Return the number of parameters in whole safetensors files, from their headers alone."""
    return sum(tensor.parameters for file in weights for tensor in read_header(file).values())


def check_weights(files: ModelFiles) -> None:
    """Raise TerminalFailure(InvalidModel) unless a folder has all of a model's weights, as safetensors."""
    if files.has(INDEX):
        _check_shards(files)
    elif files.has(WEIGHTS):
        _tensors(files, WEIGHTS)
    else:
        raise _no_weights(files)


def _check_shards(files: ModelFiles) -> None:
    index = files.json(INDEX)
    placed = index.get("weight_map")
    if not isinstance(placed, dict) or not placed or not all(_is_shard(shard) for shard in placed.values()):
        raise files.problem(f"has an {INDEX} whose weight_map does not name files for tensors", "upload it again")
    shards = sorted(set(placed.values()))
    if files.has(WEIGHTS) and WEIGHTS not in shards:
        raise files.problem(f"has a {WEIGHTS} beside an {INDEX} of other files", "remove one of the two")
    missing = [shard for shard in shards if not files.has(shard)]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise files.problem(f"has no {missing[0]}{more}, which {INDEX} names", "upload all of its shards")
    found = {shard: _tensors(files, shard) for shard in shards}
    for name, shard in placed.items():
        if name not in found[shard]:
            raise files.problem(f"has no tensor {name[:80]!r} in {shard}, where {INDEX} has it", "upload it again")
    _check_total(files, index, sum(t.end - t.begin for tensors in found.values() for t in tensors.values()))


def _is_shard(name: object) -> bool:
    return isinstance(name, str) and _SHARD.fullmatch(name) is not None


def _check_total(files: ModelFiles, index: dict[str, Any], found: int) -> None:
    metadata = index.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    if isinstance(total, int | float) and not (0 <= total < _LARGEST and abs(found - total) <= _TOLERANCE * total):
        raise files.problem(
            f"has {found} bytes of weights, where metadata.total_size of {INDEX} says {str(total)[:40]}",
            "upload all of its shards, or correct the number",
        )


def _tensors(files: ModelFiles, file: str) -> dict[str, Tensor]:
    try:
        tensors = read_header(files.path / file)
    except BrokenWeights as broken:
        if (files.path / file).is_symlink() and not (files.path / file).exists():
            raise files.missing(file) from None
        advice = LFS_ADVICE if "LFS" in str(broken) else "upload it again"
        raise files.problem(f"has a file {file} that {broken}", advice) from None
    if not tensors:
        raise files.problem(f"has a file {file} that holds no tensors", "upload it again")
    return tensors


def _no_weights(files: ModelFiles) -> Exception:
    """Say what there is in place of weights."""
    there = sorted(path.name for path in files.path.iterdir())
    if shards := [name for name in there if re.search(r"-\d+-of-\d+\.safetensors$", name)]:
        return files.problem(f"is in shards ({shards[0]}, ...) and has no {INDEX}", "upload its index as well")
    if others := [name for name in there if name.endswith(".safetensors")]:
        return files.problem(
            f"has no {WEIGHTS} and no {INDEX}, but {others[0]}", "save it with transformers' save_pretrained"
        )
    if pickles := [name for name in there if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl"))]:
        return files.problem(
            f"has no *.safetensors weights, but a pickle ({pickles[0]}), which can run any program when it is loaded",
            "convert it to safetensors",
        )
    if ggufs := [name for name in there if name.endswith(".gguf")]:
        return files.problem(f"has no *.safetensors weights, but {ggufs[0]}", "import the GGUF file as a Checkpoint")
    return files.problem("has no *.safetensors weights", "convert it to safetensors, and upload all of it")


def _parse(text: bytes) -> dict[str, Tensor]:
    try:
        header = json.loads(text.decode(), parse_constant=_no_number)
        if not isinstance(header, dict) or not _is_told(header.get("__metadata__", {})):
            raise TypeError
        tensors = {name: _tensor(entry) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        if isinstance(error, BrokenWeights):
            raise
        raise BrokenWeights("has a header that is none") from error
    place = 0
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin != place:
            raise BrokenWeights("has a header whose tensors overlap or leave gaps")
        place = tensor.end
    return tensors


def _no_number(text: str) -> float:
    raise ValueError(text)


def _is_told(metadata: Any) -> bool:
    """Tell whether a header's metadata are texts by name, as the format has them."""
    return isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())


def _tensor(entry: Any) -> Tensor:
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    if len(shape) > _DIMENSIONS or not all(type(n) is int and 0 <= n < 1 << 63 for n in (*shape, begin, end)):
        raise TypeError
    if end < begin:
        raise BrokenWeights("has a header whose tensors overlap or leave gaps")
    parameters = prod(shape)
    if parameters >= _LARGEST:
        raise BrokenWeights("has a header whose shapes do not fit its bytes")
    size = _BYTES.get(str(entry["dtype"]))
    if size is not None and end - begin != parameters * size:
        raise BrokenWeights("has a header whose shapes do not fit its bytes")
    return Tensor(parameters, begin, end)
