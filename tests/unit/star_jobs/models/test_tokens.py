"""Counting tokens with a model's own tokenizer."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure
from star_jobs.models.tokens import token_counter


class PanicException(BaseException):
    pass


class Tokenizer:
    """As the package `tokenizers` behaves, which only the trainers' images have."""

    @classmethod
    def from_file(cls, path: str) -> "Tokenizer":
        if "model" not in Path(path).read_text():
            raise Exception("expected value at line 1 column 1")
        return cls()

    limit: int | None = 2
    """Files are saved with what batches were cut to."""

    def no_truncation(self) -> None:
        self.limit = None

    def no_padding(self) -> None:
        pass

    def encode(self, text: str, *, add_special_tokens: bool) -> SimpleNamespace:
        if "unknown" in text:
            raise PanicException("WordLevel error: Missing [UNK] token")
        return SimpleNamespace(ids=text.split()[: self.limit])


@pytest.fixture(autouse=True)
def _package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", SimpleNamespace(Tokenizer=Tokenizer))


def test_tokens(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {}}')
    assert token_counter(tmp_path)("a b c") == 3


@pytest.mark.bad_input
def test_a_tokenizer_that_is_none_is_an_invalid_model(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TerminalFailure, match=r"s3://star/base has a tokenizer.json that is no tok.*line 1") as raised:
        token_counter(tmp_path, "s3://star/base")
    assert raised.value.reason is Reason.INVALID_MODEL


@pytest.mark.bad_input
def test_a_tokenizer_that_panics_is_an_invalid_model(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {}}')
    with pytest.raises(TerminalFailure, match=r"cannot read every text .*Missing") as raised:
        token_counter(tmp_path)("an unknown word")
    assert raised.value.reason is Reason.INVALID_MODEL
