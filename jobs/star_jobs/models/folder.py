"""Hugging Face model folders: what they hold, whether they are whole, and which of their files make a checkpoint.

Nothing here imports torch or transformers, so that adapters and their tests can look at a folder cheaply.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_jobs.models.chat_template import answer_prefix, prompt_of
from star_jobs.models.files import ModelFiles
from star_jobs.models.weights import INDEX, check_weights

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
ADAPTER = "adapter_config.json"
IM_START = "<|im_start|>"

_MODEL_FILES = (
    CONFIG,
    "generation_config.json",
    "*.safetensors",
    INDEX,
    TOKENIZER,
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
_OTHER_TASKS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
    "ForMaskedLM",
    "ForImageClassification",
    "RewardModel",
)
"""Ends of names of architectures that write no text."""


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
    name: str = ""
    """What its user calls it."""
    prompt: str = ""
    """What its chat template makes of the probe."""
    quantization: str = ""
    """`quant_method` of its weights, e.g. `awq`; empty for plain numbers."""

    def require_trainable(self) -> "ModelFolder":
        """Return it; raises TerminalFailure(InvalidModel) for quantized weights, which have no gradients."""
        if self.quantization:
            raise ModelFiles(self.path, self.name).problem(
                f"is quantized ({self.quantization!r}, {CONFIG})", "train the model that it was quantized from"
            )
        return self

    def answer_prefix(self) -> str:
        """Return what a ChatML model's template puts before an answer; empty for other models.

        Raises TerminalFailure(InvalidModel) when a model with ChatML's tokens has a template of another form.
        """
        return answer_prefix(self.prompt, ModelFiles(self.path, self.name)) if self.chatml else ""


def describe(path: Path, name: str = "", *, template: bool = True) -> ModelFolder:
    """Look at a model folder. `name` is what its user calls it.

    Raises TerminalFailure(InvalidModel) when it is not one that can be trained and asked: an adapter, no configuration,
    no tokenizer, weights that lack a part, or, unless `template` is False, no chat template that renders.
    """
    files = ModelFiles(path, name or path.name)
    if files.has(ADAPTER):
        raise files.problem(f"is an adapter ({ADAPTER}), not a whole model", "merge it into its base model")
    config = files.json(CONFIG)
    added = _added_tokens(files, files.json(TOKENIZER))
    check_weights(files)
    for file in checkpoint_files(path):
        if file.suffix == ".json":
            files.json(file.name)  # the engines read them all
    return ModelFolder(
        path=path,
        model_type=_model_type(files, config),
        architecture=_architecture(files, config),
        chatml=IM_START in added,
        name=files.name,
        prompt=prompt_of(files) if template else "",
        quantization=_quantization(config),
    )


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the files of a folder that make it a model: weights, configuration and tokenizer, no optimizer state."""
    return sorted({path for pattern in _MODEL_FILES for path in folder.glob(pattern) if path.is_file()})


def set_dtype(folder: Path, dtype: str) -> None:
    """Make the configuration name the number format that the weights are to be loaded in."""
    config = ModelFiles(folder, folder.name).json(CONFIG)
    config.pop("torch_dtype", None)
    config["dtype"] = dtype
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _model_type(files: ModelFiles, config: dict[str, Any]) -> str:
    found = config.get("model_type")
    if not isinstance(found, str) or not found:
        raise files.problem(f"has a {CONFIG} without model_type", "upload the configuration it was saved with")
    return found


def _architecture(files: ModelFiles, config: dict[str, Any]) -> str:
    found = config.get("architectures")
    if not isinstance(found, list) or not found or not isinstance(found[0], str):
        raise files.problem(f"has a {CONFIG} without a list of architectures", "upload the one it was saved with")
    if found[0].endswith(_OTHER_TASKS):
        raise files.problem(f"is a {found[0]!r} ({CONFIG}), which writes no text", "take a causal language model")
    return found[0]


def _quantization(config: dict[str, Any]) -> str:
    found = config.get("quantization_config")
    return str(found.get("quant_method") or "quantization_config") if isinstance(found, dict) and found else ""


def _added_tokens(files: ModelFiles, tokenizer: dict[str, Any]) -> set[str]:
    tokens = tokenizer.get("added_tokens") or []
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        raise files.problem(f"has a {TOKENIZER} whose added_tokens is no list of tokens", "upload it again")
    return {str(token.get("content")) for token in tokens}
