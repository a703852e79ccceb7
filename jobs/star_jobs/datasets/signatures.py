"""What a file is that is uploaded under the name of a table by mistake, by its first bytes."""

from collections.abc import Mapping
from pathlib import Path

from star_jobs.datasets.faults import invalid

_SIGNATURES: Mapping[bytes, str] = {
    b"\x1f\x8b": "compressed by gzip (unpack it with gunzip)",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard (unpack it with unzstd)",
    b"BZh": "compressed by bzip2 (unpack it with bunzip2)",
    b"\xfd7zXZ\x00": "compressed by xz (unpack it with unxz)",
    b"\x04\x22\x4d\x18": "compressed by LZ4 (unpack it with unlz4)",
    b"\xff\x06\x00\x00sNaPpY": "compressed by Snappy (unpack it)",
    b"PK\x03\x04": "a ZIP archive (unpack it)",
    b"PK\x05\x06": "an empty ZIP archive",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive (unpack it)",
    b"PAR1": "a Parquet file (export it as text)",
    b"ARROW1": "an Arrow file (export it as text)",
    b"Obj\x01": "an Avro file (export it as text)",
    b"SQLite format 3\x00": "an SQLite database (export its tables as text)",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (export it as text)",
    b"%PDF-": "a PDF document",
    b"\xff\xfe": "UTF-16 text (convert it with iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "UTF-16 text (convert it with iconv -f UTF-16 -t UTF-8)",
    b"version https://git-lfs.github.com/spec/": "a Git LFS pointer (upload what it points to: git lfs pull)",
    b"<": "an HTML or XML page (an error page that was saved in its place?)",
}
_TAR_MAGIC, _TAR_AT = b"ustar", 257
HEAD_BYTES = _TAR_AT + len(_TAR_MAGIC)


def described(head: bytes) -> str | None:
    """Return what a file surely is instead of text of ours; None where it may be. `head` are its first HEAD_BYTES."""
    if head[_TAR_AT:HEAD_BYTES] == _TAR_MAGIC:
        return "a tar archive (unpack it)"
    return next((what for magic, what in _SIGNATURES.items() if head.startswith(magic)), None)


def refuse_other_formats(path: Path) -> None:
    """Raise TerminalFailure(InvalidDataset) that says what a table is instead, where that is plain to see."""
    with path.open("rb") as file:
        what = described(file.read(HEAD_BYTES))
    if what is not None:
        raise invalid(f"{path.name} is {what}: the source must hold plain text")
