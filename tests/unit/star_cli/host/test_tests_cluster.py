"""Which cluster the end-to-end tests use: there can be one alone on a machine."""

from pathlib import Path

import pytest

from star_cli.host import facts


@pytest.mark.parametrize(
    ("owner", "keep", "wanted"),
    [
        ("", "", "e2e"),
        ("", "1", "default"),
        ("{root}/default", "", "default"),
        ("{root}/dev", "", "dev"),
        ("{root}/e2e", "", "e2e"),  # left by a session that was killed: it is taken down
        ("/home/somebody/.local/state/star-operator/default", "", "e2e"),  # not ours: refused by its own sentence
    ],
)
def test_one_that_runs_is_used_and_else_one_of_their_own(
    owner: str, keep: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAR_STATE", str(tmp_path))
    monkeypatch.setenv("STAR_E2E_KEEP", keep)
    monkeypatch.setattr(facts, "_owner", lambda: owner.format(root=tmp_path))
    assert facts.cluster_of_tests() == wanted
