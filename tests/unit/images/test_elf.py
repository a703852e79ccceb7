import ctypes
from collections.abc import Mapping
from pathlib import Path

import pydantic_core
import pytest

from star_cli.images import cuda_stubs
from star_cli.images.elf import Export, Needs, read_needs, write_library

FAMILIES = {"cublasCreate_v2": "libcublas.so.13", "ncclGetErrorString": "", "nvshmem_put": "NVSHMEM"}


def needs(libraries: tuple[str, ...] = (), undefined: Mapping[str, str] | None = None, *defined: str) -> Needs:
    return Needs(libraries, undefined or {}, frozenset(defined))


def native_library() -> Path:
    return next(Path(pydantic_core.__file__).parent.glob("*.so"))


def test_reads_what_a_real_library_needs() -> None:
    found = read_needs(native_library())
    assert "libc.so.6" in found.libraries
    assert found.undefined["memcpy"].startswith("GLIBC_")
    assert "PyInit__pydantic_core" in found.defined
    assert not found.defined & found.undefined.keys()


def test_the_system_reads_what_it_wrote(tmp_path: Path) -> None:
    file = tmp_path / "libx.so"
    file.write_bytes(write_library("libx.so", b"\xc3", [Export("one", "V1", 0), Export("two", "", 0)]))
    library = ctypes.CDLL(str(file))
    assert hasattr(library, "one")
    assert hasattr(library, "two")
    assert not hasattr(library, "three")


def test_refuses_what_is_no_library(tmp_path: Path) -> None:
    file = tmp_path / "libx.so"
    file.write_bytes(b"not a library" * 10)
    with pytest.raises(ValueError, match=r"libx\.so is not a 64-bit x86 ELF file"):
        read_needs(file)


def test_the_loader_takes_the_stand_in_and_its_functions_fail(tmp_path: Path) -> None:
    file = tmp_path / cuda_stubs.FILE
    file.write_bytes(cuda_stubs.stub_library(FAMILIES))
    library = ctypes.CDLL(str(file))
    assert library.cublasCreate_v2() == 1
    assert library.nvshmem_put() == 1
    library.ncclGetErrorString.restype = ctypes.c_char_p
    assert library.ncclGetErrorString(3) == b"this image carries no CUDA library"
    assert not hasattr(library, "cudaMalloc")


def test_a_library_without_functions_loads_too(tmp_path: Path) -> None:
    file = tmp_path / "libempty.so"
    file.write_bytes(cuda_stubs.stub_library({}))
    assert ctypes.CDLL(str(file))


def test_links_every_missing_name_and_keeps_off_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {
        "libtorch_cuda.so": needs(("libcublas.so.13", "libcudart.so.13", "libc.so.6"), FAMILIES | {"cudaMalloc": ""}),
        "libtorch_nvshmem.so": needs(("libnvshmem_host.so.3",), {}, "nvshmem_put"),
    }
    for name in parts:
        (tmp_path / name).touch()
    monkeypatch.setattr(cuda_stubs, "read_needs", lambda path: parts[path.name])
    for _ in range(2):
        assert cuda_stubs.install(tmp_path) == ["libcublas.so.13", "libnvshmem_host.so.3"]
    library = ctypes.CDLL(str(tmp_path / "libcublas.so.13"))
    assert hasattr(library, "cublasCreate_v2")
    assert not hasattr(library, "nvshmem_put"), "what another of torch's libraries gives"
    assert not hasattr(library, "cudaMalloc"), "what the runtime gives"
    assert not (tmp_path / "libcudart.so.13").exists()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no libraries; give the folder torch/lib"):
        cuda_stubs.install(tmp_path)
