"""Pull requests by the three APIs, against a fake of each (`tests/support/fakeforge.py`)."""

import threading
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from star_contracts import addresses
from star_contracts.errors import Reason
from star_contracts.promotion import Forge, ForgeKind, PromotionState
from star_jobs.errors import JobFailure, RetryableFailure, TerminalFailure
from star_jobs.promote import forgehttp
from star_jobs.promote.credentials import Secrets
from star_jobs.promote.forge import ForgeApi, connect, ensure, repository_path
from tests.support.fakeforge import PROJECT, TOKEN, Answer, FakeForge, serving

HEAD = "star/team/p-00000001"


@pytest.fixture(params=list(ForgeKind))
def fake(request: pytest.FixtureRequest) -> Iterator[FakeForge]:
    with serving(request.param) as forge:
        yield forge


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    return Secrets(tmp_path)


def connected(fake: FakeForge, secrets: Secrets) -> ForgeApi:
    """A connection to the fake, which has no HTTPS."""
    forge = Forge.model_construct(kind=fake.kind, url=fake.url)
    _, api = connect(forge, f"https://git.example.com/{PROJECT}.git", secrets, True, threading.Event())
    return api


@pytest.fixture
def api(fake: FakeForge, secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> ForgeApi:
    monkeypatch.setattr(forgehttp, "_PAUSE_SECONDS", 0.01)
    return connected(fake, secrets)


def test_a_request_is_opened_updated_followed_and_closed(fake: FakeForge, api: ForgeApi) -> None:
    opened = ensure(api, HEAD, "main", "Promote a", "what it says")
    again = ensure(api, HEAD, "main", "Promote a", "what it says")
    updated = ensure(api, HEAD, "main", "Promote a", "more")

    assert (opened.state, opened.ref.number, opened.ref.url[:7]) == (PromotionState.OPEN, 1, "http://")
    assert opened == again
    assert (updated.ref.number, updated.body) == (1, "more")
    assert len(fake.pulls) == 1
    assert api.get(1).state is PromotionState.OPEN

    assert api.close(1, "superseded by another").state is PromotionState.CLOSED
    assert fake.comments == ["superseded by another"]
    assert ensure(api, HEAD, "main", "Promote a", "more").state is PromotionState.CLOSED, "not opened again"


def test_a_merged_one_names_its_commit(fake: FakeForge, api: ForgeApi) -> None:
    fake.add(HEAD, state="merged")
    found = api.find(HEAD, "main")
    assert found is not None
    assert (found.state, found.commit) == (PromotionState.MERGED, "c" * 40)


def test_conflicts_are_told(fake: FakeForge, api: ForgeApi) -> None:
    fake.add(HEAD, conflicts=True)
    assert api.get(1).ref.mergeable is False


def test_others_and_those_of_forks_are_not_taken_for_it(fake: FakeForge, api: ForgeApi) -> None:
    for number in range(5):
        fake.add(f"other-{number}")
    fake.add(HEAD, fork=True)
    assert api.find(HEAD, "main") is None
    assert ensure(api, HEAD, "main", "t", "b").ref.number == 7


def test_lists_are_read_page_by_page(secrets: Secrets) -> None:
    with serving(ForgeKind.GITLAB) as fake:
        api = connected(fake, secrets)
        for _ in range(5):
            fake.add(HEAD, state="closed")
        fake.add(HEAD)
        found = api.find(HEAD, "main")
        assert found is not None
        assert found.ref.number == 6
        assert len(fake.asked) == 3


def test_a_second_one_at_once_is_found_after_the_forge_refuses_it(fake: FakeForge, api: ForgeApi) -> None:
    fake.add(HEAD)
    lists = {ForgeKind.GITEA: [Answer(404, {}), Answer(200, [])]}.get(fake.kind, [Answer(200, [])])
    fake.answers = [*lists]  # the list was read before the other one opened it
    assert ensure(api, HEAD, "main", "title", "body").ref.number == 1
    assert len(fake.pulls) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(502, "<html>bad gateway</html>"),
        Answer(429, {"message": "slow down"}, {"Retry-After": "0"}),
        Answer(403, {"message": "API rate limit exceeded"}, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}),
        Answer(429, {"message": "slow down"}, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    ],
)
def test_what_passes_is_asked_again(fake: FakeForge, api: ForgeApi, answer: Answer) -> None:
    fake.add(HEAD)
    fake.answers = [answer]
    assert api.get(1).ref.number == 1
    assert len(fake.asked) == 2


def test_a_long_rate_limit_is_left_to_the_next_job(fake: FakeForge, api: ForgeApi) -> None:
    fake.answers = [Answer(429, {"message": "later"}, {"Retry-After": "3600"})]
    with pytest.raises(RetryableFailure, match="later") as caught:
        api.get(1)
    assert caught.value.reason is Reason.FORGE_UNREACHABLE
    assert len(fake.asked) == 1


def test_a_forge_that_stays_down_is_asked_later(fake: FakeForge, api: ForgeApi) -> None:
    fake.answers = [Answer(503, "down")] * 9
    with pytest.raises(RetryableFailure, match="503"):
        api.get(1)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("answer", "reason", "says"),
    [
        (Answer(401, {"message": f"bad {TOKEN}"}), Reason.FORGE_ACCESS_DENIED, "bad ***"),
        (Answer(403, {"message": "Resource not accessible"}), Reason.FORGE_ACCESS_DENIED, "Resource not accessible"),
        (Answer(404, {"message": "404 Project Not Found"}), Reason.FORGE_REFUSED, "404 Project Not Found"),
        (
            Answer(422, {"message": "Validation Failed", "errors": [{"message": "No commits between"}]}),
            Reason.FORGE_REFUSED,
            "Validation Failed No commits between",
        ),
        (Answer(400, {"message": {"title": ["is too long"]}}), Reason.FORGE_REFUSED, "title is too long"),
        (Answer(301, {}, {"Location": "https://evil.example.com"}), Reason.FORGE_REFUSED, "it redirects"),
        (Answer(200, "<html>"), Reason.FORGE_REFUSED, "no JSON"),
        (Answer(200, {"a": 1}), Reason.FORGE_REFUSED, "no pull request"),
    ],
)
def test_the_forges_own_sentence(fake: FakeForge, api: ForgeApi, answer: Answer, reason: Reason, says: str) -> None:
    fake.answers = [answer]
    with pytest.raises(TerminalFailure) as caught:
        api.get(1)
    assert caught.value.reason is reason
    assert says in caught.value.message
    assert TOKEN not in caught.value.message


@pytest.mark.bad_input
def test_a_next_page_elsewhere_gets_no_token(secrets: Secrets) -> None:
    with serving(ForgeKind.GITHUB) as fake, serving(ForgeKind.GITHUB) as evil:
        fake.answers = [Answer(200, [], {"Link": f'<{evil.url}/x>; rel="next"'})]
        with pytest.raises(TerminalFailure, match="elsewhere"):
            connected(fake, secrets).find(HEAD, "main")
        assert evil.asked == []


@pytest.mark.bad_input
def test_no_token(fake: FakeForge, tmp_path: Path) -> None:
    with pytest.raises(TerminalFailure) as caught:
        connected(fake, Secrets(tmp_path / "empty"))
    assert caught.value.reason is Reason.FORGE_ACCESS_DENIED


def test_nothing_that_answers(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgehttp, "_PAUSE_SECONDS", 0.01)
    with serving(ForgeKind.GITEA) as fake:
        api = connected(fake, secrets)
    with pytest.raises(JobFailure) as caught:
        api.get(1)
    assert caught.value.reason is Reason.FORGE_UNREACHABLE


@pytest.mark.parametrize(
    ("repository", "below", "path"),
    [
        ("https://git.example.com/team/fleet.git", "", "team/fleet"),
        ("https://example.com/git/group/sub/fleet", "/git", "group/sub/fleet"),
        ("ssh://git@example.com:2222/team/fleet.git", "", "team/fleet"),
        ("git@example.com:team/fleet.git", "", "team/fleet"),
    ],
)
def test_repositories_as_their_forge_knows_them(repository: str, below: str, path: str) -> None:
    assert repository_path(repository, below) == path


@pytest.mark.bad_input
def test_a_forge_where_nodes_keep_credentials_is_not_called(
    fake: FakeForge, secrets: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "_METADATA_NETS", (ip_network("127.0.0.0/8"),))
    for host, says in (("127.0.0.1", "it is where"), ("localhost", r"it is at 127\.0\.0\.1")):
        fake.url = fake.url.replace("127.0.0.1", host)
        with pytest.raises(TerminalFailure, match=rf"{says}.*git\.forge\.url") as caught:
            connected(fake, secrets).get(1)
        assert caught.value.reason is Reason.FORGE_REFUSED
    assert fake.asked == []
