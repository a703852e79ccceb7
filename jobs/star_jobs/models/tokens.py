"""Count tokens as a model's own tokenizer does, without loading the model."""

from collections.abc import Callable
from pathlib import Path

from star_jobs.models.files import ModelFiles

TokenCounter = Callable[[str], int]
"""Number of tokens of a text, control tokens such as `<|im_start|>` counted as one."""


def token_counter(folder: Path, name: str = "") -> TokenCounter:
    """Return a counter for the model in `folder` (Hugging Face `tokenizers`, in the trainers' images).

    Raises TerminalFailure(InvalidModel) when its tokenizer cannot be read. `name` is what its user calls it.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the package raises nothing more special
        detail = " ".join(str(error).split())[:200]
        raise ModelFiles(folder, name or folder.name).problem(
            f"has a tokenizer.json that is no tokenizer ({detail})", "upload the one it was trained with"
        ) from error
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
