"""JSON Lines files, typed by model."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure

RecordT = TypeVar("RecordT", bound=BaseModel)


def to_line(record: BaseModel) -> bytes:
    """Return one JSON line, newline included. Nothing is left out, so that it reads back to an equal value."""
    return record.model_dump_json(by_alias=True).encode() + b"\n"


def write_jsonl(path: Path, records: Iterable[BaseModel]) -> int:
    """Write one record a line, creating parent folders; return how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("wb") as out:
        for record in records:
            out.write(to_line(record))
            count += 1
    return count


def parse_jsonl(data: bytes, model: type[RecordT], name: str) -> Iterator[RecordT]:
    """Yield the records of JSON Lines held in memory; `name` is what an error calls them."""
    for number, line in enumerate(data.splitlines(), start=1):
        if line.strip():
            yield _parse(line, model, f"{name} line {number}")


def read_jsonl(path: Path, model: type[RecordT]) -> Iterator[RecordT]:
    """Yield the records of a file, one line in memory at a time.

    Raises TerminalFailure(ArtifactCorrupted), naming file and line, when a line is not such a record.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parse(line, model, f"{path.name} line {number}")
    except FileNotFoundError:
        raise TerminalFailure(
            Reason.ARTIFACT_CORRUPTED,
            f"the artifact has no file {path.name}: it was made by another version; run it again",
        ) from None


def _parse(line: bytes, model: type[RecordT], where: str) -> RecordT:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the line"
        raise TerminalFailure(
            Reason.ARTIFACT_CORRUPTED, f"{where} is not a {model.__name__}: {field}: {first['msg']}"
        ) from error
