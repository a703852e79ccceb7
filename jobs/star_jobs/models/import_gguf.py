"""Stage `import-model`: a GGUF file in the store -> a checkpoint artifact in Hugging Face layout.

This is how weights that ship inside a package get in where no hub can be reached. The weights are dequantized to
float32 and copied into a fresh model of the same architecture, which forgets the quantization; the tokenizer gets our
chat template. Runs in the trainer's image.
"""

import time
from pathlib import Path
from typing import Any

from star_contracts.artifact import ArtifactKind
from star_contracts.errors import Reason
from star_contracts.job import ImportModel
from star_jobs.errors import JobFailure, TerminalFailure
from star_jobs.models import gguf
from star_jobs.models.chat_template import CHATML, END_OF_TURN
from star_jobs.models.folder import IM_START, checkpoint_files, describe
from star_jobs.models.weights import parameter_count
from star_jobs.runtime import JobContext, Outcome
from star_jobs.storage.files import sha256_file


def run(stage: ImportModel, job: JobContext) -> Outcome:
    """Convert the file and write the checkpoint. Raises TerminalFailure(InvalidModel) when it cannot be converted."""
    started = time.monotonic()
    job.progress(0, 3, "steps")
    source = job.scratch / "source" / "model.gguf"
    job.store.download(stage.source, source)
    digest = f"sha256:{sha256_file(source)}"
    _require_same(digest, job.spec.inputs.get("source"), stage.source)
    require_gguf(source, stage.source)
    job.progress(1, 3, "steps")
    folder = convert(source, job.scratch / "model", stage.source)
    job.progress(2, 3, "steps")
    for path in checkpoint_files(folder):
        job.output.add_file(path, path.name)
    weights = list(folder.glob("*.safetensors"))
    job.progress(3, 3, "steps")
    return Outcome(
        kind=ArtifactKind.CHECKPOINT,
        inputs={"source": digest},
        metrics={"parameters": float(parameter_count(weights)), "seconds": round(time.monotonic() - started, 1)},
    )


def _require_same(found: str, expected: str | None, uri: str) -> None:
    """Refuse a file other than the one that the work hash speaks of."""
    if expected is not None and found != expected:
        raise TerminalFailure(
            Reason.SOURCE_CHANGED,
            f"source: {uri} is {found} and was to be {expected}: it was replaced; upload the one you mean again",
        )


def require_gguf(file: Path, uri: str) -> None:
    """Raise TerminalFailure(InvalidModel) unless the file is a whole GGUF file."""
    try:
        gguf.check(file)
    except gguf.BrokenGGUF as broken:
        raise TerminalFailure(Reason.INVALID_MODEL, f"source: {uri} {broken}: upload the .gguf itself, whole") from None


def convert(source: Path, destination: Path, uri: str) -> Path:
    """Write the GGUF file's model and tokenizer into `destination` as float32 safetensors.

    Raises TerminalFailure(InvalidModel) when the libraries cannot make a model of it.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        loaded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        prepare_tokenizer(tokenizer, uri)
        model = _fresh_copy(loaded, tokenizer)
    except (JobFailure, MemoryError):
        raise
    except Exception as error:  # whatever a library says of a user's file
        detail = " ".join(str(error).split())[:300]
        raise TerminalFailure(
            Reason.INVALID_MODEL,
            f"source: {uri} cannot be read as a causal language model ({detail}); upload one of an architecture that "
            "transformers reads from GGUF files",
        ) from error
    model.save_pretrained(destination)
    tokenizer.save_pretrained(destination)
    describe(destination, uri)
    return destination


def prepare_tokenizer(tokenizer: Any, uri: str) -> None:
    """Set our chat template and the token that ends a turn."""
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in (IM_START, END_OF_TURN) if token not in vocabulary]
    if missing:
        raise TerminalFailure(
            Reason.INVALID_MODEL,
            f"source: {uri} has no {' and '.join(missing)} in its vocabulary: only ChatML models can be imported",
        )
    tokenizer.chat_template = CHATML
    tokenizer.eos_token = END_OF_TURN
    tokenizer.pad_token = END_OF_TURN


def _fresh_copy(loaded: Any, tokenizer: Any) -> Any:
    """Return a model of the same class and shape that knows nothing of the file it came from."""
    import torch

    settings = loaded.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        settings.pop(key, None)
    settings |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = type(loaded)(type(loaded.config)(**settings))
    model.load_state_dict({name: weight.float() for name, weight in loaded.state_dict().items()}, strict=True)
    model.tie_weights()
    model = model.to(torch.float32)
    model.config.dtype = torch.float32
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
