"""Promotions into real bare repositories, by the real git program."""

import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from star_contracts.errors import Reason
from star_contracts.promotion import PromotionLimits, PromotionState, PromotionTarget, Signing
from star_jobs.errors import JobFailure, RetryableFailure, TerminalFailure
from star_jobs.promote.message import trailers
from tests.support.gitrepos import FILE, OLD, PATH, BareRepository, digest, promotion_spec, run_on


@pytest.fixture
def server(tmp_path: Path) -> BareRepository:
    return BareRepository.create(tmp_path / "server.git", {PATH: FILE, "README.md": "# fleet\n", "a/b/c.txt": "c\n"})


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


def test_a_digest_is_committed_and_nothing_else_changes(server: BareRepository, scratch: Path) -> None:
    before = server.tip()

    outcome = run_on(promotion_spec(server.url), scratch)

    assert outcome.state is PromotionState.COMMITTED
    assert outcome.commit == server.tip()
    assert (outcome.from_digest, outcome.standing, outcome.from_uri) == (OLD, digest(1), "s3://models/old")
    assert server.show() == FILE.replace(OLD, digest(1)).replace("s3://models/old", "s3://models/checkpoint-1")
    assert server.git("diff", "--name-status", before, "main").split() == ["M", PATH]
    assert server.git("rev-parse", "main^").strip() == before
    assert trailers(server.messages()[0])["Star-Promotion"] == "team/p/p-uid-0001"
    assert not scratch.exists(), "nothing stays on the disk"


def test_the_same_promotion_makes_no_second_commit(server: BareRepository, scratch: Path) -> None:
    first = run_on(promotion_spec(server.url), scratch)
    again = run_on(promotion_spec(server.url), scratch)

    assert (again.state, again.commit, again.from_digest) == (PromotionState.COMMITTED, first.commit, OLD)
    assert len(server.messages()) == 2


def test_the_same_digest_makes_no_second_commit(server: BareRepository, scratch: Path) -> None:
    run_on(promotion_spec(server.url), scratch)
    other = run_on(promotion_spec(server.url, name="other"), scratch)

    assert (other.state, other.commit) == (PromotionState.ALREADY_THERE, None)
    assert len(server.messages()) == 2


def test_a_commit_is_known_again_after_others_and_after_a_revert(server: BareRepository, scratch: Path) -> None:
    spec = promotion_spec(server.url, created=datetime.now(UTC))
    first = run_on(spec, scratch)
    server.commit({PATH: FILE}, "Revert it")
    server.commit({"README.md": "x"}, *(f"other {number}" for number in range(70)))

    again = run_on(spec, scratch)

    assert (again.state, again.commit) == (PromotionState.COMMITTED, first.commit)
    assert again.standing == OLD
    assert server.show() == FILE, "a rollback stays"


def test_history_older_than_the_promotion_is_left_alone(server: BareRepository, scratch: Path) -> None:
    run_on(promotion_spec(server.url), scratch)
    server.commit({PATH: FILE}, "Revert it")
    later = datetime.now(UTC) + timedelta(days=2)

    again = run_on(promotion_spec(server.url, name="again", created=later), scratch)

    assert again.state is PromotionState.COMMITTED
    assert len(server.messages()) == 4


def test_a_branch_that_moved_is_fetched_again(server: BareRepository, scratch: Path) -> None:
    moves = iter(range(3))

    def move(step: str) -> None:
        if step == "committed" and next(moves, None) is not None:
            server.commit({"README.md": os.urandom(4).hex()}, "other")

    outcome = run_on(promotion_spec(server.url), scratch, between=move)

    assert outcome.state is PromotionState.COMMITTED
    assert len(server.messages()) == 5
    assert server.tip() == outcome.commit


def test_a_branch_that_moves_on_and_on_is_left_for_later(server: BareRepository, scratch: Path) -> None:
    def move(step: str) -> None:
        if step == "committed":
            server.commit({"README.md": os.urandom(4).hex()}, "other")

    with pytest.raises(RetryableFailure) as caught:
        run_on(promotion_spec(server.url, limits=PromotionLimits(retries=2)), scratch, between=move)
    assert caught.value.reason is Reason.BRANCH_MOVING
    assert server.show() == FILE


@pytest.mark.bad_input
def test_the_same_place_changed_by_another_is_a_conflict(server: BareRepository, scratch: Path) -> None:
    def overtake(step: str) -> None:
        if step == "committed":
            server.commit({PATH: FILE.replace(OLD, digest(9))}, "by hand")

    with pytest.raises(TerminalFailure) as caught:
        run_on(promotion_spec(server.url), scratch, between=overtake)
    assert caught.value.reason is Reason.PROMOTION_CONFLICT
    assert OLD in caught.value.message
    assert digest(9) in caught.value.message
    assert digest(9) in server.show()


def test_another_that_writes_the_same_is_no_conflict(server: BareRepository, scratch: Path) -> None:
    def overtake(step: str) -> None:
        if step == "committed":
            server.commit(
                {PATH: FILE.replace(OLD, digest(1)).replace("s3://models/old", "s3://models/checkpoint-1")}, "same"
            )

    assert run_on(promotion_spec(server.url), scratch, between=overtake).state is PromotionState.ALREADY_THERE


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("path", "reason", "says"),
    [
        ("link.yaml", Reason.PLACE_REFUSED, "is a symbolic link"),
        ("way/student.yaml", Reason.PLACE_REFUSED, "goes through way, which is a symbolic link"),
        ("vendored", Reason.PLACE_REFUSED, "is a submodule"),
        ("vendored/x.yaml", Reason.PLACE_REFUSED, "goes through vendored, which is a submodule"),
        ("envs", Reason.PLACE_REFUSED, "is a folder"),
        ("envs/../README.md", Reason.PLACE_REFUSED, "leaves the repository"),
        ("nowhere.yaml", Reason.PLACE_NOT_FOUND, "is not in the branch"),
        ("large.yaml", Reason.PLACE_REFUSED, "has 1048577 bytes"),
    ],
)
def test_what_is_no_plain_file(server: BareRepository, scratch: Path, path: str, reason: Reason, says: str) -> None:
    files = {"link.yaml": f"->{PATH}", "way": "->envs/prod", "large.yaml": "#" * (1024 * 1024 + 1)}
    server.commit({**files, "vendored": f"@{server.tip()}"}, "links")
    target = promotion_spec(server.url).target.model_copy(update={"path": path})

    with pytest.raises(TerminalFailure) as caught:
        run_on(promotion_spec(server.url, target=target), scratch)
    assert caught.value.reason is reason
    assert says in caught.value.message


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("changes", "reason", "says"),
    [
        ({"branch": "nope"}, Reason.GIT_REFUSED, "target.branch nope is not in"),
        ({"repository": "file:///nowhere/at/all.git"}, Reason.GIT_REFUSED, "target.repository"),
        ({"repository": "ext::sh -c true"}, Reason.GIT_REFUSED, "by https or ssh"),
    ],
)
def test_repositories_that_are_not_there(
    server: BareRepository, scratch: Path, changes: dict[str, str], reason: Reason, says: str
) -> None:
    target = promotion_spec(server.url).target.model_copy(update=changes)
    with pytest.raises(JobFailure) as caught:
        run_on(promotion_spec(server.url, target=target), scratch)
    assert caught.value.reason is reason
    assert says in caught.value.message


@pytest.mark.bad_input
def test_only_the_protocols_that_are_allowed(server: BareRepository, scratch: Path) -> None:
    with pytest.raises(TerminalFailure, match="by https or ssh"):
        run_on(promotion_spec(server.url), scratch, protocols=("https", "ssh"))


@pytest.mark.bad_input
def test_a_hook_of_the_server_that_refuses_is_quoted(server: BareRepository, scratch: Path) -> None:
    hook = server.path / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'main is protected: open a pull request' >&2\nexit 1\n")
    server.git("config", "core.hooksPath", str(hook.parent))
    hook.chmod(0o755)
    with pytest.raises(TerminalFailure) as caught:
        run_on(promotion_spec(server.url), scratch)
    assert caught.value.reason is Reason.GIT_REFUSED
    assert "main is protected: open a pull request" in caught.value.message
    assert "mode PullRequest" in caught.value.message


@pytest.mark.bad_input
def test_a_repository_larger_than_the_limits(server: BareRepository, scratch: Path) -> None:
    server.git("config", "uploadpack.allowFilter", "false")
    server.commit({"large.bin": os.urandom(300_000).hex()}, "large")
    with pytest.raises(TerminalFailure) as caught:
        run_on(promotion_spec(server.url), scratch, limits=PromotionLimits(fetch_bytes=100_000))
    assert caught.value.reason is Reason.GIT_TOO_LARGE


def test_large_files_beside_it_are_not_fetched(server: BareRepository, scratch: Path) -> None:
    server.commit({"large.bin": os.urandom(600_000).hex()}, "large")
    outcome = run_on(promotion_spec(server.url), scratch, limits=PromotionLimits(fetch_bytes=700_000))
    assert outcome.state is PromotionState.COMMITTED


def test_a_tenants_hooks_filters_and_configuration_do_not_run(
    server: BareRepository, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "trap"
    config = f'[core]\n hooksPath = {tmp_path}\n[filter "x"]\n clean = touch {trap}\n smudge = touch {trap}\n'
    (tmp_path / ".gitconfig").write_text(config)
    for hook in ("pre-push", "post-commit", "reference-transaction", "post-index-change"):
        (tmp_path / hook).write_text(f"#!/bin/sh\ntouch {trap}\n")
        (tmp_path / hook).chmod(0o755)
    server.commit({".gitattributes": "* filter=x\n", ".lfsconfig": "[lfs]\n url = https://evil\n"}, "attributes")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_SSH_COMMAND", f"touch {trap}")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.hooksPath")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(tmp_path))

    assert run_on(promotion_spec(server.url), scratch).state is PromotionState.COMMITTED
    assert not trap.exists()


@pytest.fixture
def ssh_key(tmp_path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    return tmp_path / "key"


def test_commits_signed_with_ssh(server: BareRepository, scratch: Path, tmp_path: Path, ssh_key: Path) -> None:
    secrets = tmp_path / "secret"
    secrets.mkdir()
    (secrets / "signing-key").write_text(ssh_key.read_text().strip())  # as Secrets often are: without the last newline
    (tmp_path / "allowed").write_text(f"star@example.com {(tmp_path / 'key.pub').read_text()}")

    run_on(promotion_spec(server.url, signing=Signing.SSH), scratch, secrets)

    options = ("-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={tmp_path / 'allowed'}")
    assert server.git(*options, "log", "-1", "--format=%G?", "main").strip() == "G"


def test_commits_signed_with_gpg(server: BareRepository, scratch: Path, tmp_path: Path) -> None:
    secrets, home = tmp_path / "secret", tmp_path / "g"
    secrets.mkdir()
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", ""]
    subprocess.run([*gpg, "--quick-generate-key", "STAR <star@example.com>", "ed25519", "sign"], check=True)
    key = subprocess.run([*gpg, "--export-secret-keys", "--armor"], check=True, capture_output=True).stdout
    (secrets / "signing-key").write_bytes(key)

    run_on(promotion_spec(server.url, signing=Signing.GPG), scratch, secrets)

    assert server.git("log", "-1", "--format=%G?", "main", env={"GNUPGHOME": str(home)}).strip() in "GU"
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)


@pytest.mark.bad_input
@pytest.mark.parametrize("signing", [Signing.SSH, Signing.GPG])
@pytest.mark.parametrize("key", [None, "no key at all"])
def test_keys_that_cannot_sign(
    server: BareRepository, scratch: Path, tmp_path: Path, signing: Signing, key: str | None
) -> None:
    secrets = tmp_path / "secret"
    secrets.mkdir()
    if key is not None:
        (secrets / "signing-key").write_text(key)
    with pytest.raises(TerminalFailure) as caught:
        run_on(promotion_spec(server.url, signing=signing), scratch, secrets)
    assert caught.value.reason is Reason.SIGNING_FAILED
    assert "signing-key" in caught.value.message
    assert len(server.messages()) == 1


class Killed(BaseException):
    """The pod is gone."""


@pytest.mark.parametrize("step", ["fetched", "read", "committed", "pushed"])
def test_killed_at_any_step_and_started_again_leaves_one_commit(
    server: BareRepository, scratch: Path, step: str, killed_at: Callable[[str], Callable[[str], None]]
) -> None:
    with pytest.raises(Killed):
        run_on(promotion_spec(server.url), scratch, between=killed_at(step))

    outcome = run_on(promotion_spec(server.url), scratch)

    assert outcome.state is PromotionState.COMMITTED
    assert len(server.messages()) == 2


@pytest.fixture
def killed_at() -> Callable[[str], Callable[[str], None]]:
    def at(step: str) -> Callable[[str], None]:
        def between(done: str) -> None:
            if done == step:
                raise Killed

        return between

    return at


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "repository", ["https://u:p@h/a", "git@-h:a", "ssh://-oProxyCommand=x/a", "file:///a", "-u", "http://h/a"]
)
def test_addresses_that_nobody_may_give(repository: str) -> None:
    with pytest.raises(ValueError, match="repository"):
        PromotionTarget(repository=repository, branch="main", path="a.yaml")
