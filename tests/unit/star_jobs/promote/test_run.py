"""`star-job promote` as a whole: pull requests from their opening to their end, and the command itself."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from star_contracts.errors import Reason
from star_contracts.job import Store
from star_contracts.promotion import (
    Forge,
    ForgeKind,
    PromotionAction,
    PromotionMode,
    PromotionOutcome,
    PromotionSpec,
    PromotionState,
)
from star_contracts.result import JobResult
from star_jobs import __main__ as command
from star_jobs.errors import TerminalFailure
from tests.support.githttp import PASSWORD, USER, serving
from tests.support.gitrepos import FILE, OLD, PATH, BareRepository, digest, promotion_spec, run_on
from tests.support.localforge import LocalForge


@pytest.fixture
def server(tmp_path: Path) -> BareRepository:
    return BareRepository.create(tmp_path / "root" / "server.git", {PATH: FILE, "README.md": "# fleet\n"})


@pytest.fixture
def forge(server: BareRepository) -> LocalForge:
    return LocalForge(server)


Act = Callable[..., PromotionOutcome]


@pytest.fixture
def act(server: BareRepository, forge: LocalForge, tmp_path: Path) -> Act:
    def run(action: PromotionAction = PromotionAction.PROMOTE, **changes: object) -> PromotionOutcome:
        given = {"mode": PromotionMode.PULL_REQUEST, "forge": Forge(kind=ForgeKind.GITEA), "action": action, **changes}
        return run_on(promotion_spec(server.url, **given), tmp_path / "scratch", forge=forge)

    return run


HEAD = "star/team/p-p-uid-00"


def test_a_pull_request_is_opened_followed_and_merged(server: BareRepository, forge: LocalForge, act: Act) -> None:
    opened = act()
    assert (opened.state, opened.branch, opened.from_digest) == (PromotionState.OPENED, HEAD, OLD)
    assert opened.standing == OLD, "nothing stands there before the merge"
    assert opened.pull_request is not None
    assert server.show() == FILE
    assert digest(1) in server.show(branch=HEAD)

    assert act(PromotionAction.FOLLOW).state is PromotionState.OPEN
    assert forge.merge(opened.pull_request.number)
    merged = act(PromotionAction.FOLLOW, pull_request=opened.pull_request)

    assert (merged.state, merged.commit, merged.standing) == (PromotionState.MERGED, server.tip(), digest(1))
    assert act().state is PromotionState.MERGED, "a Job that is started again opens no second one"
    assert len(forge.all()) == 1


def test_one_whose_branch_is_gone_after_the_merge(server: BareRepository, forge: LocalForge, act: Act) -> None:
    act()
    forge.merge(1)
    server.git("branch", "-D", HEAD)
    assert act().state is PromotionState.MERGED
    assert server.branches() == {"main"}


def test_one_that_was_changed_before_its_merge(server: BareRepository, forge: LocalForge, act: Act) -> None:
    act()
    server.commit({PATH: FILE.replace(OLD, digest(5))}, "in review", branch=HEAD)
    forge.merge(1)
    assert act(PromotionAction.FOLLOW).standing == digest(5)


def test_a_commit_is_not_made_twice_where_the_forge_failed(
    server: BareRepository, forge: LocalForge, act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise TerminalFailure(Reason.FORGE_REFUSED, "no")

    with monkeypatch.context() as patch:
        patch.setattr(LocalForge, "create", fail)
        with pytest.raises(TerminalFailure):
            act()
    pushed = server.tip(HEAD)

    outcome = act()

    assert (outcome.state, outcome.commit, outcome.from_digest) == (PromotionState.OPENED, pushed, OLD)
    assert len(server.messages(HEAD)) == 2


def test_its_text_is_brought_up_to_date(forge: LocalForge, act: Act) -> None:
    act()
    act(environment="prod")
    assert [item["title"] for item in forge.all()] == ["Promote 000000000000 to prod"]


def test_closed_by_the_promotion_or_by_others(forge: LocalForge, act: Act) -> None:
    act()
    closed = act(PromotionAction.CLOSE, reason="it was cancelled")
    assert closed.state is PromotionState.CLOSED
    assert forge.all()[0]["reason"] == "it was cancelled"
    assert act().state is PromotionState.CLOSED, "what was closed is not opened again"
    assert act(PromotionAction.CLOSE).state is PromotionState.CLOSED


def test_closing_what_was_never_opened_looks_and_pushes_nothing(server: BareRepository, act: Act) -> None:
    closed = act(PromotionAction.CLOSE)
    assert (closed.state, closed.commit, closed.pull_request) == (PromotionState.CLOSED, None, None)
    assert server.branches() == {"main"}


def test_a_commit_that_nobody_heard_of_is_found_and_none_is_made(server: BareRepository, tmp_path: Path) -> None:
    look = promotion_spec(server.url, action=PromotionAction.CLOSE)
    before = server.tip()
    absent = run_on(look, tmp_path / "look")
    assert (absent.state, absent.commit, absent.standing) == (PromotionState.CLOSED, None, OLD)
    assert server.tip() == before
    made = run_on(promotion_spec(server.url), tmp_path / "made")
    found = run_on(look, tmp_path / "again")
    assert (found.state, found.commit, found.standing) == (PromotionState.COMMITTED, made.commit, digest(1))
    assert server.tip() == made.commit


def test_a_place_that_says_it_already_needs_no_request(server: BareRepository, forge: LocalForge, act: Act) -> None:
    text = FILE.replace(OLD, digest(1)).replace("s3://models/old", "s3://models/checkpoint-1")
    server.commit({PATH: text}, "by hand")
    assert act().state is PromotionState.ALREADY_THERE
    assert forge.all() == []
    assert server.branches() == {"main"}


@pytest.mark.bad_input
def test_a_branch_of_that_name_that_is_somebody_elses(server: BareRepository, act: Act) -> None:
    server.commit({"README.md": "x"}, "mine", branch=HEAD)
    with pytest.raises(TerminalFailure, match="delete it, and promote again") as caught:
        act()
    assert caught.value.reason is Reason.PROMOTION_CONFLICT


@pytest.mark.bad_input
def test_nothing_to_follow(act: Act) -> None:
    with pytest.raises(TerminalFailure, match="was never opened"):
        act(PromotionAction.FOLLOW)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[int, JobResult]]:
    """Run the command on a spec's JSON."""

    def run(text: str) -> tuple[int, JobResult]:
        (tmp_path / "promotion.json").write_text(text)
        for name, value in {
            "STAR_PROMOTION_SPEC": "promotion.json",
            "STAR_GIT_DIR": "secret",
            "STAR_WORK_DIR": "work",
            "STAR_TERMINATION_LOG": "termination.log",
        }.items():
            monkeypatch.setenv(name, str(tmp_path / value))
        monkeypatch.setattr(sys, "argv", ["star-job", "promote"])
        code = command.main()
        return code, JobResult.model_validate_json((tmp_path / "termination.log").read_bytes())

    return run


def test_the_command_commits_and_answers(
    server: BareRepository,
    tmp_path: Path,
    job: Callable[[str], tuple[int, JobResult]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "secret").mkdir()
    with serving(tmp_path / "root", tmp_path) as https:
        files = {"username": USER, "password": PASSWORD, "ca.crt": https.authority.read_text()}
        for name, text in files.items():
            (tmp_path / "secret" / name).write_text(text)
        spec = promotion_spec(f"{https.url}/server.git")
        code, result = job(json.dumps(spec.to_json_dict()))

    assert (code, result.error) == (0, None)
    assert result.promotion is not None
    assert result.promotion.state is PromotionState.COMMITTED
    assert result.promotion.commit == server.tip()
    assert PASSWORD not in capsys.readouterr().out
    assert list((tmp_path / "work" / "promotion").iterdir()) == []


@pytest.mark.bad_input
def test_a_spec_that_cannot_be_used(job: Callable[[str], tuple[int, JobResult]]) -> None:
    code, result = job("{}")
    assert code == 65
    assert result.error is not None
    assert result.error.reason == Reason.INVALID_JOB_SPEC
    assert "STAR_PROMOTION_SPEC" in result.error.message


@pytest.mark.bad_input
def test_a_spec_that_somebody_exchanged(
    server: BareRepository, job: Callable[[str], tuple[int, JobResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = server.tip()
    monkeypatch.setenv("STAR_PROMOTION_DIGEST", digest(7))
    code, result = job(json.dumps(promotion_spec("https://git.example.com/o/r").to_json_dict()))
    assert (code, server.tip()) == (65, before)
    assert result.error is not None
    assert result.error.reason == Reason.INVALID_JOB_SPEC
    assert "somebody has exchanged its ConfigMap" in result.error.message


@pytest.mark.bad_input
def test_a_checkpoint_is_verified_where_no_report_is_claimed(
    server: BareRepository, job: Callable[[str], tuple[int, JobResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, asked = server.tip(), []

    def differs(spec: PromotionSpec, _store: object) -> None:
        asked.append(spec.uri)
        raise TerminalFailure(Reason.PROOF_DIFFERS, "it is another one")

    monkeypatch.setattr("star_jobs.promote.run.verify", differs)
    spec = promotion_spec("https://git.example.com/o/r", store=Store())
    code, result = job(json.dumps(spec.to_json_dict()))
    assert (code, server.tip(), asked) == (65, before, [spec.uri])
    assert result.error is not None
    assert result.error.reason == Reason.PROOF_DIFFERS
