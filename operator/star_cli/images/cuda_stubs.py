"""Lets PyPI's torch, a CUDA build, run on CPUs without 2.4 GB of CUDA libraries.

    python -m star_cli.images.cuda_stubs FOLDER        FOLDER: torch/lib of an environment

torch's libraries cannot be loaded unless those of CUDA that they name are there, although without a GPU none of their
functions is called. This writes one small library that exports every such function, and links it under each missing
name. Each function answers 1, which is an error in every one of these interfaces; those that give a text give one. The
CUDA runtime itself (`nvidia-cuda-runtime`) must be installed: it is what says that there is no GPU.
"""

import re
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

from star_cli.images.elf import Export, read_needs, write_library

FILE = "libstar_no_cuda.so"
_FAMILIES = "cublas|cudnn|cufft|cufile|curand|cusolver|cusparse|nccl|nvrtc|nvJitLink|nvshmem"
_LIBRARY = re.compile(rf"^lib({_FAMILIES})\w*\.so")
_FUNCTION = re.compile(rf"^({_FAMILIES})", re.IGNORECASE)
_GIVES_TEXT = re.compile(r"(String|Name|LastError)$")
_MESSAGE = b"this image carries no CUDA library\0"
# mov eax, 1; ret -- padded to 8 bytes; lea rax, [rip + 1]; ret -- the message follows.
_FAIL = b"\xb8\x01\x00\x00\x00\xc3\x90\x90"
_TEXT = b"\x48\x8d\x05" + struct.pack("<i", 1) + b"\xc3"
_CODE = _FAIL + _TEXT + _MESSAGE


def stub_library(functions: Mapping[str, str]) -> bytes:
    """The stand-in library for functions (name to version; an empty version means none)."""
    exports = [
        Export(name, version, len(_FAIL) if _GIVES_TEXT.search(name) else 0)
        for name, version in sorted(functions.items())
    ]
    return write_library(FILE, _CODE, exports)


def install(folder: Path) -> list[str]:
    """Write the stand-in into `folder` (torch/lib) and link it under the names that torch's libraries ask for.

    Running it again changes nothing. Libraries that are really installed elsewhere come first on torch's own search
    path, so a stand-in never hides one.

    Returns:
        The library names it stands in for, sorted.

    Raises:
        ValueError: the folder holds libraries of another processor.
        FileNotFoundError: the folder holds no torch libraries.
    """
    found = [read_needs(path) for path in sorted(folder.glob("lib*.so")) if path.name != FILE]
    if not found:
        raise FileNotFoundError(f"{folder} holds no libraries; give the folder torch/lib of an environment")
    defined = frozenset[str]().union(*(needs.defined for needs in found))
    missing = {
        name: version
        for needs in found
        for name, version in needs.undefined.items()
        if _FUNCTION.match(name) and name not in defined
    }
    (folder / FILE).write_bytes(stub_library(missing))
    names = sorted({name for needs in found for name in needs.libraries if _LIBRARY.match(name)})
    for name in names:
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(FILE)
    return names


if __name__ == "__main__":
    print("stand-ins for", ", ".join(install(Path(sys.argv[1]))))
