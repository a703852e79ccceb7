"""Promotions over HTTPS (the real `git http-backend`), and what is said over SSH (no server of it runs in tests)."""

import os
import socket
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from star_contracts import addresses
from star_contracts.errors import Reason
from star_contracts.promotion import PromotionLimits, PromotionSpec, PromotionState
from star_jobs.errors import JobFailure, RetryableFailure, TerminalFailure
from star_jobs.promote import reach
from star_jobs.promote.credentials import Secrets, environment, host_of
from star_jobs.promote.git import PROTOCOLS
from star_jobs.promote.program import GitProgram
from tests.support.githttp import PASSWORD, USER, GitServer, serving
from tests.support.gitrepos import FILE, PATH, BareRepository, digest, promotion_spec, run_on


@pytest.fixture
def bare(tmp_path: Path) -> BareRepository:
    return BareRepository.create(tmp_path / "root" / "team" / "fleet.git", {PATH: FILE})


@pytest.fixture
def server(bare: BareRepository, tmp_path: Path) -> Iterator[GitServer]:
    with serving(tmp_path / "root", tmp_path) as found:
        yield found


@pytest.fixture
def secrets(tmp_path: Path, server: GitServer) -> Path:
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "username").write_text(USER)
    (folder / "password").write_text(f"{PASSWORD}\n")
    (folder / "ca.crt").write_text(server.authority.read_text())
    return folder


def spec_of(server: GitServer) -> PromotionSpec:
    return promotion_spec(f"{server.url}/team/fleet.git")


def test_over_https_with_a_password_and_a_private_authority(
    bare: BareRepository, server: GitServer, secrets: Path, tmp_path: Path
) -> None:
    outcome = run_on(spec_of(server), tmp_path / "scratch", secrets, protocols=PROTOCOLS)

    assert outcome.state is PromotionState.COMMITTED
    assert outcome.commit == bare.tip()
    assert digest(1) in bare.show()
    assert not any(PASSWORD in path for path in server.asked)


@pytest.mark.bad_input
def test_a_wrong_password_is_said_and_not_shown(server: GitServer, secrets: Path, tmp_path: Path) -> None:
    (secrets / "password").write_text("another-secret")
    with pytest.raises(TerminalFailure) as caught:
        run_on(spec_of(server), tmp_path / "scratch", secrets, protocols=PROTOCOLS)
    assert caught.value.reason is Reason.GIT_ACCESS_DENIED
    assert "another-secret" not in caught.value.message


@pytest.mark.bad_input
def test_no_credentials(server: GitServer, secrets: Path, tmp_path: Path) -> None:
    for name in ("username", "password"):
        (secrets / name).unlink()
    with pytest.raises(TerminalFailure) as caught:
        run_on(spec_of(server), tmp_path / "scratch", secrets, protocols=PROTOCOLS)
    assert caught.value.reason is Reason.GIT_ACCESS_DENIED


@pytest.mark.bad_input
def test_an_authority_that_is_not_believed(server: GitServer, secrets: Path, tmp_path: Path) -> None:
    (secrets / "ca.crt").unlink()
    with pytest.raises(TerminalFailure) as caught:
        run_on(spec_of(server), tmp_path / "scratch", secrets, protocols=PROTOCOLS)
    assert caught.value.reason is Reason.GIT_HOST_UNVERIFIED
    assert "ca.crt" in caught.value.message
    assert server.authorized == [], "no password before the host is known"


@pytest.mark.bad_input
def test_an_authority_that_is_none(server: GitServer, secrets: Path, tmp_path: Path) -> None:
    (secrets / "ca.crt").write_text("not a certificate")
    with pytest.raises(TerminalFailure, match="no PEM certificates"):
        run_on(spec_of(server), tmp_path / "scratch", secrets, protocols=PROTOCOLS)


@pytest.mark.bad_input
def test_a_redirect_is_not_followed(server: GitServer, secrets: Path, tmp_path: Path, bare: BareRepository) -> None:
    (tmp_path / "other").mkdir()
    with serving(tmp_path / "root", tmp_path / "other") as elsewhere:
        server.redirect = elsewhere.url
        with pytest.raises(TerminalFailure) as caught:
            run_on(spec_of(server), tmp_path / "scratch", secrets, protocols=PROTOCOLS)
        assert elsewhere.asked == []
    assert caught.value.reason is Reason.GIT_REFUSED
    assert "redirects" in caught.value.message
    assert len(bare.messages()) == 1


@pytest.mark.bad_input
def test_no_such_repository(server: GitServer, secrets: Path, tmp_path: Path) -> None:
    with pytest.raises(TerminalFailure) as caught:
        run_on(promotion_spec(f"{server.url}/team/none.git"), tmp_path / "scratch", secrets, protocols=PROTOCOLS)
    assert caught.value.reason is Reason.GIT_REFUSED
    assert "target.repository is not there" in caught.value.message


def test_nothing_that_answers_is_tried_again(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        for scheme in ("https://", "ssh://git@"):
            spec = promotion_spec(f"{scheme}127.0.0.1:{unused.getsockname()[1]}/a.git")
            with pytest.raises(RetryableFailure) as caught:
                run_on(spec, tmp_path / "scratch", protocols=PROTOCOLS)
            assert caught.value.reason is Reason.GIT_UNREACHABLE


SSH = """\
#!/bin/sh
printf '%s\\n' "$@" > {log}
for last; do :; done
exec sh -c "$last"
"""


def test_over_ssh_with_the_secrets_key_and_known_hosts(
    bare: BareRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for ssh runs the command here: what it is given is what counts."""
    programs, secrets, log = tmp_path / "programs", tmp_path / "secret", tmp_path / "arguments"
    programs.mkdir()
    secrets.mkdir()
    (programs / "ssh").write_text(SSH.format(log=log))
    (programs / "ssh").chmod(0o755)
    (secrets / "ssh-privatekey").write_text("PRIVATE")
    (secrets / "known_hosts").write_text("git.example.com ssh-ed25519 AAAA")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    outcome = run_on(
        promotion_spec(f"ssh://git@git.example.com:2222{bare.path}"), tmp_path / "scratch", secrets, protocols=PROTOCOLS
    )

    assert outcome.commit == bare.tip()
    given = log.read_text().splitlines()
    for option in (
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "GlobalKnownHostsFile=/dev/null",
    ):
        assert option in given
    assert f"UserKnownHostsFile={tmp_path / 'scratch' / 'known_hosts'}" in given
    assert given[given.index("-i") + 1] == str(tmp_path / "scratch" / "ssh-privatekey")
    assert "PRIVATE" not in log.read_text()


def test_keys_are_readable_by_this_user_alone(tmp_path: Path) -> None:
    folder, scratch = tmp_path / "secret", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    (folder / "ssh-privatekey").write_text("-----BEGIN\r\nKEY-----")
    found = environment(Secrets(folder), "ssh://git@h/a", scratch, PROTOCOLS)
    key = scratch / "ssh-privatekey"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text() == "-----BEGIN\nKEY-----\n"
    assert "KEY" not in " ".join(found.values())


@pytest.mark.parametrize(
    ("words", "reason", "retried"),
    [
        ("Host key verification failed.\nfatal: Could not read from remote repository.", "GitHostUnverified", False),
        ("git@h: Permission denied (publickey).\nfatal: Could not read", "GitAccessDenied", False),
        ('Load key "x": error in libcrypto\ngit@h: Permission denied', "GitAccessDenied", False),
        ("ssh: Could not resolve hostname h: Name or service not known", "GitUnreachable", True),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 503", "GitUnreachable", True),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 429", "GitUnreachable", True),
        ("error: RPC failed; HTTP 403 curl 22 The requested URL returned error: 403", "GitAccessDenied", False),
        ("fatal: unable to access: server certificate verification failed. CAfile: x", "GitHostUnverified", False),
        ("fatal: unable to access: SSL certificate problem: self-signed certificate", "GitHostUnverified", False),
        ("fatal: GnuTLS recv error (-110): The TLS connection was non-properly terminated", "GitUnreachable", True),
        ("remote: Repository not found.\nfatal: repository 'https://h/a/' not found", "GitRefused", False),
        ("fatal: the remote end hung up unexpectedly", "GitUnreachable", True),
        ("remote: something that nobody has seen", "GitRefused", False),
        ("No user exists for uid 1000\nfatal: Could not read from remote repository.", "GitRefused", False),
    ],
)
def test_what_git_says_means(tmp_path: Path, words: str, reason: str, retried: bool) -> None:
    program = GitProgram(tmp_path, tmp_path, {}, Secrets(tmp_path), PromotionLimits(), None)  # type: ignore[arg-type]
    failure: JobFailure = program.failure("fetch", words)
    assert (failure.reason, isinstance(failure, RetryableFailure)) == (reason, retried)


def test_an_id_that_ssh_does_not_know_is_told_with_what_to_do(tmp_path: Path) -> None:
    program = GitProgram(tmp_path, tmp_path, {}, Secrets(tmp_path), PromotionLimits(), None)  # type: ignore[arg-type]
    said = program.failure(
        "fetch", "No user exists for uid 1000\nfatal: Could not read from remote repository."
    ).message
    assert "No user exists for uid 1000" in said
    assert "take https" in said


@pytest.mark.parametrize(
    ("repository", "host"),
    [("https://h.example:8443/a", "h.example:8443"), ("ssh://git@h:22/a", "h:22"), ("git@h:a/b", "h")],
)
def test_hosts(repository: str, host: str) -> None:
    assert host_of(repository) == host


@pytest.mark.bad_input
@pytest.mark.parametrize("scheme", ["https://", "ssh://git@"])
@pytest.mark.parametrize("host", ["169.254.169.254", "0xa9fea9fe", "Metadata.google.internal"])
def test_a_host_that_keeps_credentials_is_not_called(scheme: str, host: str, tmp_path: Path) -> None:
    with pytest.raises(TerminalFailure, match=r"credentials of their own.*target\.repository") as caught:
        run_on(promotion_spec(f"{scheme}{host}/a.git"), tmp_path / "scratch", protocols=PROTOCOLS)
    assert caught.value.reason is Reason.GIT_REFUSED


@pytest.mark.bad_input
def test_a_name_that_stands_for_such_a_host_is_not_called(
    server: GitServer, secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "_METADATA_NETS", (ip_network("127.0.0.0/8"),))
    named = server.url.replace("127.0.0.1", "localhost")
    with pytest.raises(TerminalFailure, match=r"localhost is not called: it is at 127\.0\.0\.1"):
        run_on(promotion_spec(f"{named}/team/fleet.git"), tmp_path / "scratch", secrets, protocols=PROTOCOLS)
    assert server.asked == []


def test_git_calls_the_address_that_was_looked_at(
    bare: BareRepository, server: GitServer, secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that stands for another address a moment later leads nowhere else."""
    named = promotion_spec(f"{server.url.replace('127.0.0.1', 'localhost')}/team/fleet.git")
    monkeypatch.setattr(reach, "_addresses", lambda host: ["127.0.0.2"])
    with pytest.raises(RetryableFailure):
        run_on(named, tmp_path / "scratch", secrets, protocols=PROTOCOLS)
    monkeypatch.setattr(reach, "_addresses", lambda host: ["127.0.0.2", "127.0.0.1"])
    assert run_on(named, tmp_path / "again", secrets, protocols=PROTOCOLS).commit == bare.tip()


@pytest.mark.parametrize(
    ("repository", "pin"),
    [
        ("https://git.example.com/a", "git.example.com:443:192.0.2.1,[2001:db8::1]"),
        ("https://Git.Example.com:8443/a", "git.example.com:8443:192.0.2.1,[2001:db8::1]"),
        ("ssh://git@git.example.com/a", ""),
        ("git@git.example.com:a", ""),
    ],
)
def test_what_git_is_told_of_a_host(repository: str, pin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "_addresses", lambda host: ["192.0.2.1", "2001:db8::1"])
    assert reach.pinned(repository) == pin
    monkeypatch.setattr(reach, "_addresses", lambda host: [])
    assert reach.pinned(repository) == "", "a proxy may know the name"
