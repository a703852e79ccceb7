"""Just enough of the ELF format to read what a shared library needs, and to write one that only exports names.

64-bit little-endian x86 alone: the one format of torch's Linux wheels this is used on. Layouts: System V ABI
(https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html); versions: Linux Standard Base, chapter 10.7.
"""

import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_DYNSYM, _DYNAMIC, _VERNEED, _VERSYM = 11, 6, 0x6FFFFFFE, 0x6FFFFFFF
_DT_NEEDED = 1
_HEADER, _PROGRAM_HEADER, _SYMBOL = 64, 56, 24
_GLOBAL_FUNCTION = 0x12
_MAGIC = b"\x7fELF\x02\x01\x01"
_X86_64 = 62


@dataclass(frozen=True)
class Needs:
    """What a shared library asks of others, and what it gives."""

    libraries: tuple[str, ...]
    """Names of the libraries it loads (DT_NEEDED)."""
    undefined: Mapping[str, str]
    """Symbol to the version it must have; an empty version means any."""
    defined: frozenset[str]
    """Symbols it exports."""


@dataclass(frozen=True)
class _Section:
    kind: int
    offset: int
    size: int
    link: int


def read_needs(path: Path) -> Needs:
    """Read the dynamic tables of a shared library.

    Raises:
        ValueError: the file is not a 64-bit little-endian x86 ELF file.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(_MAGIC)] != _MAGIC or struct.unpack_from("<H", data, 18)[0] != _X86_64:
            raise ValueError(f"{path.name} is not a 64-bit x86 ELF file")
        return _Reader(data).needs()


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        (start,) = struct.unpack_from("<Q", data, 40)
        size, count = struct.unpack_from("<HH", data, 58)
        rows = (struct.unpack_from("<IIQQQQII", data, start + index * size) for index in range(count))
        self._sections = [_Section(row[1], row[4], row[5], row[6]) for row in rows]

    def needs(self) -> Needs:
        undefined: dict[str, str] = {}
        defined: set[str] = set()
        versions = self._versions()
        for name, is_defined, index in self._symbols():
            if is_defined:
                defined.add(name)
            elif name:
                undefined[name] = versions.get(index, "")
        return Needs(tuple(self._libraries()), undefined, frozenset(defined))

    def _of_kind(self, kind: int) -> Iterator[_Section]:
        return (section for section in self._sections if section.kind == kind)

    def _strings(self, section: _Section) -> bytes:
        table = self._sections[section.link]
        return self._data[table.offset : table.offset + table.size]

    def _libraries(self) -> Iterator[str]:
        for section in self._of_kind(_DYNAMIC):
            strings = self._strings(section)
            for offset in range(section.offset, section.offset + section.size, 16):
                tag, value = struct.unpack_from("<QQ", self._data, offset)
                if tag == _DT_NEEDED:
                    yield _text(strings, value)

    def _symbols(self) -> Iterator[tuple[str, bool, int]]:
        """Name, whether it is defined here, and its version's index."""
        marks = b"".join(self._data[part.offset : part.offset + part.size] for part in self._of_kind(_VERSYM))
        for section in self._of_kind(_DYNSYM):
            strings = self._strings(section)
            for index in range(section.size // _SYMBOL):
                name, _, _, home = struct.unpack_from("<IBBH", self._data, section.offset + index * _SYMBOL)
                mark = struct.unpack_from("<H", marks, index * 2)[0] & 0x7FFF if marks else 0
                yield _text(strings, name), bool(home), mark

    def _versions(self) -> dict[int, str]:
        """Index to version, of the versions that it asks for."""
        found: dict[int, str] = {}
        for section in self._of_kind(_VERNEED):
            strings = self._strings(section)
            offset, more = section.offset, True
            while more:
                _, count, _, auxiliary, following = struct.unpack_from("<HHIII", self._data, offset)
                entry = offset + auxiliary
                for _ in range(count):
                    _, _, index, name, step = struct.unpack_from("<IHHII", self._data, entry)
                    found[index] = _text(strings, name)
                    entry += step
                offset, more = offset + following, bool(following)
        return found


def _text(strings: bytes, offset: int) -> str:
    return strings[offset : strings.index(b"\0", offset)].decode()


class _Strings:
    """A string table that grows."""

    def __init__(self) -> None:
        self.data = b"\0"

    def add(self, text: str) -> int:
        offset = len(self.data)
        self.data += text.encode() + b"\0"
        return offset


@dataclass(frozen=True)
class Export:
    """A function that the written library exports."""

    name: str
    version: str
    entry: int
    """Offset of its machine code in the library's code."""


def write_library(soname: str, code: bytes, exports: Sequence[Export]) -> bytes:
    """A shared library whose functions are `exports`, all within `code`; it needs no other library."""
    strings = _Strings()
    versions = sorted({export.version for export in exports if export.version})
    soname_at = strings.add(soname)
    names = [strings.add(export.name) for export in exports]
    marks = [versions.index(export.version) + 2 if export.version else 1 for export in exports]
    definitions = _version_definitions([(soname, soname_at), *((each, strings.add(each)) for each in versions)])
    code_at = _HEADER + 3 * _PROGRAM_HEADER
    symbols = b"\0" * _SYMBOL + b"".join(
        struct.pack("<IBBHQQ", name, _GLOBAL_FUNCTION, 0, 1, code_at + export.entry, 1)
        for name, export in zip(names, exports, strict=True)
    )
    image = bytearray(code_at) + code
    hash_at = _append(image, _hash_table(len(exports) + 1))
    symbols_at = _append(image, symbols)
    strings_at = _append(image, strings.data)
    marks_at = _append(image, struct.pack(f"<{len(marks) + 1}H", 0, *marks))
    definitions_at = _append(image, definitions)
    table = {14: soname_at, 4: hash_at, 5: strings_at, 6: symbols_at, 10: len(strings.data), 11: _SYMBOL}
    table |= {0x6FFFFFF0: marks_at, 0x6FFFFFFC: definitions_at, 0x6FFFFFFD: len(versions) + 1, 0: 0}
    dynamic = b"".join(struct.pack("<QQ", tag, value) for tag, value in table.items())
    dynamic_at = _append(image, dynamic)
    image[:code_at] = _headers(len(image), dynamic_at, len(dynamic))
    return bytes(image)


def _append(image: bytearray, part: bytes) -> int:
    image.extend(b"\0" * (-len(image) % 8))
    offset = len(image)
    image.extend(part)
    return offset


def _hash_table(count: int) -> bytes:
    """One bucket that chains all symbols: nobody looks up fast what is never called."""
    chain = [index + 1 if 0 < index < count - 1 else 0 for index in range(count)]
    return struct.pack(f"<{3 + count}I", 1, count, 1 if count > 1 else 0, *chain)


def _version_definitions(versions: Sequence[tuple[str, int]]) -> bytes:
    """Verdef records; the first is the library itself (VER_FLG_BASE)."""
    records = b""
    for index, (name, offset) in enumerate(versions):
        following = 28 if index + 1 < len(versions) else 0
        records += struct.pack("<HHHHIII", 1, index == 0, index + 1, 1, _elf_hash(name), 20, following)
        records += struct.pack("<II", offset, 0)
    return records


def _elf_hash(name: str) -> int:
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ (high >> 24)) & ~high & 0xFFFFFFFF
    return value


def _headers(size: int, dynamic_at: int, dynamic_size: int) -> bytes:
    """ELF header and program headers: all of the file loaded, the dynamic table, and a stack that is not executable."""
    identity = _MAGIC + b"\0" * 9
    header = struct.pack("<16sHHIQQQIHHHHHH", identity, 3, _X86_64, 1, 0, _HEADER, 0, 0, _HEADER, 56, 3, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 7, 0, 0, 0, size, size, 0x1000)
    dynamic = struct.pack("<IIQQQQQQ", 2, 6, dynamic_at, dynamic_at, dynamic_at, dynamic_size, dynamic_size, 8)
    return header + load + dynamic + struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)
