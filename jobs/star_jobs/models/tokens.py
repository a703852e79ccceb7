"""Count tokens as a model's own tokenizer does, without loading the model."""

from collections.abc import Callable
from pathlib import Path

TokenCounter = Callable[[str], int]
"""Number of tokens of a text, control tokens such as `<|im_start|>` counted as one."""


def token_counter(folder: Path) -> TokenCounter:
    """Return a counter for the model in `folder` (Hugging Face `tokenizers`, in the trainers' images)."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
