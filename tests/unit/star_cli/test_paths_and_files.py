import os
import subprocess
import sys
from pathlib import Path

import pytest

from star_cli.local.errors import LocalClusterError
from star_cli.local.files import locked, write_atomic, write_if_changed
from star_cli.local.paths import Layout, cache_dir, state_dir


@pytest.mark.parametrize(
    ("environ", "cache", "state"),
    [
        ({"HOME": "/h"}, "/h/.cache/star-operator", "/h/.local/state/star-operator/dev"),
        (
            {"HOME": "/h", "XDG_CACHE_HOME": "/c", "XDG_STATE_HOME": "/s"},
            "/c/star-operator",
            "/s/star-operator/dev",
        ),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/c", "STAR_CACHE": "/mine", "STAR_STATE": "/st"}, "/mine", "/st/dev"),
    ],
)
def test_own_variable_wins_over_xdg_and_xdg_over_home(environ: dict[str, str], cache: str, state: str) -> None:
    assert cache_dir(environ) == Path(cache)
    assert state_dir("dev", environ) == Path(state)


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["", "Dev", "a/b", "..", "-a", "a-", "a" * 21, "a b"])
def test_cluster_name_that_is_no_short_label_is_refused(name: str) -> None:
    with pytest.raises(LocalClusterError, match=r"cluster name .* lower-case letters"):
        state_dir(name, {"HOME": "/h"})


def test_lock_lies_beside_the_state_folder_that_down_removes() -> None:
    layout = Layout(Path("/s/dev"))
    assert layout.root not in layout.lock_file.parents


def test_secret_file_never_exists_with_a_wider_mode(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secret"
    write_atomic(path, "x", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [child.name for child in path.parent.iterdir()] == ["secret"]


def test_write_if_changed_says_whether_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert write_if_changed(path, "a")
    assert not write_if_changed(path, b"a")
    assert write_if_changed(path, "b")


def test_lock_is_free_after_its_holder_was_killed_and_after_its_file_was_removed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = f"""
import os, sys
from pathlib import Path
from star_cli.local.files import locked
with locked(Path({str(path)!r})):
    print("held", flush=True)
    os.kill(os.getpid(), 9)
"""
    holder = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert holder.stdout == "held\n"
    with locked(path):
        os.unlink(path)
    with locked(path):
        assert path.exists()
