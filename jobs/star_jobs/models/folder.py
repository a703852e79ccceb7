"""Hugging Face model folders: what they hold, whether they are whole, and which of their files make a checkpoint.

Nothing here imports torch or transformers, so that adapters and their tests can look at a folder cheaply.
"""

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
IM_START = "<|im_start|>"

_MODEL_FILES = (
    CONFIG,
    "generation_config.json",
    "*.safetensors",
    INDEX,
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)


@dataclass(frozen=True)
class ModelFolder:
    """What the adapters need to know of a model on disk."""

    path: Path
    model_type: str
    """`model_type` of its configuration, e.g. `llama`, `qwen3`."""
    architecture: str
    """First of `architectures`, e.g. `LlamaForCausalLM`."""
    chatml: bool
    """Its tokenizer has ChatML's role tokens, as Qwen's and SmolLM's have."""


def describe(path: Path) -> ModelFolder:
    """Look at a model folder.

    Raises TerminalFailure(InvalidModel) when it is not one: no configuration, no tokenizer, or weights cut short.
    """
    config = _read_json(path / CONFIG)
    architectures = config.get("architectures") or [""]
    tokenizer = _read_json(path / "tokenizer.json")
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise _invalid(path, "has no *.safetensors weights", "convert it to safetensors")
    for file in weights:
        if not is_whole_safetensors(file):
            raise _invalid(path, f"has a file {file.name} that is cut short", "upload it again")
    added = {str(token.get("content")) for token in tokenizer.get("added_tokens", [])}
    return ModelFolder(path, str(config.get("model_type", "")), str(architectures[0]), IM_START in added)


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the files of a folder that make it a model: weights, configuration and tokenizer, no optimizer state."""
    return sorted({path for pattern in _MODEL_FILES for path in folder.glob(pattern) if path.is_file()})


def set_dtype(folder: Path, dtype: str) -> None:
    """Make the configuration name the number format that the weights are to be loaded in."""
    config = _read_json(folder / CONFIG)
    config.pop("torch_dtype", None)
    config["dtype"] = dtype
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def parameter_count(weights: Iterable[Path]) -> int:
    """Return the number of parameters in safetensors files, from their headers alone."""
    total = 0
    for file in weights:
        for name, entry in _safetensors_header(file).items():
            if name != "__metadata__":
                size = 1
                for length in entry["shape"]:
                    size *= int(length)
                total += size
    return total


def is_whole_safetensors(file: Path) -> bool:
    """Tell whether a safetensors file has all the bytes its header promises (safetensors format, README)."""
    try:
        header = _safetensors_header(file)
        ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        with file.open("rb") as data:
            (length,) = struct.unpack("<Q", data.read(8))
        return file.stat().st_size == 8 + int(length) + max(ends, default=0)
    except (OSError, ValueError, KeyError, struct.error):
        return False


def _safetensors_header(file: Path) -> dict[str, Any]:
    with file.open("rb") as data:
        (length,) = struct.unpack("<Q", data.read(8))
        if length > 100_000_000:
            raise ValueError("not a safetensors header")
        header: dict[str, Any] = json.loads(data.read(length))
    return header


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise _invalid(file.parent, f"has no {file.name}", "point to a Hugging Face model folder") from None
    except ValueError as error:
        raise _invalid(file.parent, f"has a {file.name} that is not JSON ({error})", "upload it again") from error
    if not isinstance(value, dict):
        raise _invalid(file.parent, f"has a {file.name} that is not a JSON object", "upload it again")
    return value


def _invalid(folder: Path, what: str, advice: str) -> TerminalFailure:
    return TerminalFailure(Reason.INVALID_MODEL, f"the model in {folder.name} {what}: {advice}")
