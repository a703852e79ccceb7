"""Count tokens as a model's own tokenizer does, without loading the model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from star_jobs.models.files import ModelFiles

TokenCounter = Callable[[str], int]
"""Number of tokens of a text, control tokens such as `<|im_start|>` counted as one."""


def token_counter(folder: Path, name: str = "") -> TokenCounter:
    """Return a counter for the model in `folder` (Hugging Face `tokenizers`, in the trainers' images).

    Raises TerminalFailure(InvalidModel) when its tokenizer cannot be read. `name` is what its user calls it.
    """
    from tokenizers import Tokenizer

    files = ModelFiles(folder, name or folder.name)
    with _broken(files, "that is no tokenizer"):
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # Saved with the tokenizer where it was last used with them: they are about batches, and not about texts.
        tokenizer.no_truncation()
        tokenizer.no_padding()

    def count(text: str) -> int:
        with _broken(files, "that cannot read every text"):
            return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return count


@contextmanager
def _broken(files: ModelFiles, what: str) -> Iterator[None]:
    """Turn what the package raises into InvalidModel: plain exceptions, and panics, which are none."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        detail = " ".join(str(error).split())[:200]
        raise files.problem(f"has a tokenizer.json {what} ({detail})", "upload the one it was trained with") from error
