"""What a gateway counts: recommendations, and at which place the item stood that a user took."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_contracts.online import MAX_REVISIONS, WINDOW_SECONDS, OnlineCounts, OnlineReport, OnlineTarget
from star_jobs.serve import online as module
from star_jobs.serve.models import Feedback, FeedbackEvent, RankedItem, RankSource, Recommendation, TokenUsage
from star_jobs.serve.online import Online, send

TARGET = OnlineTarget(url="http://operator/v1/online", namespace="team", name="live", uid="u-1")


class World:
    """A counter whose clock stands still."""

    def __init__(self) -> None:
        self.time = 0.0
        self.online = Online(lambda: {"r1", "r2"}, lambda: self.time)

    def shows(self, request_id: str, *items: str, revision: str = "r1") -> None:
        ranking = [RankedItem(rank=n + 1, item_id=item, title=item) for n, item in enumerate(items)]
        self.online.shown(
            Recommendation(
                request_id=request_id, user_id=None, ranking=ranking, source=RankSource.STUDENT, valid=True, answers=1,
                valid_answers=1, revision=revision, checkpoint="sha256:x", latency_seconds=0.1,
                usage=TokenUsage(prompt_tokens=1, completion_tokens=1, calls=1),
            )
        )  # fmt: skip

    def takes(self, request_id: str, item: str, event: str = "click", **fields: Any) -> None:
        self.online.take(Feedback(request_id=request_id, item_id=item, event=FeedbackEvent(event), **fields))

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        return {name: counts.model_dump() for name, counts in self.online.counts().items()}


def counted(recommendations: int, chosen: int = 0, *hits: int) -> dict[str, int]:
    one, three, five = hits or (0, 0, 0)
    return {"recommendations": recommendations, "chosen": chosen, "hits1": one, "hits3": three, "hits5": five}


def test_a_choice_counts_at_the_place_where_the_item_stood() -> None:
    world = World()
    for request_id, item in (("a", "i1"), ("b", "i3"), ("c", "i5"), ("d", "i7"), ("e", "")):
        world.shows(request_id, *(f"i{n}" for n in range(1, 9)))
        if item:
            world.takes(request_id, item)
    assert world.counts == {"r1": counted(5, 4, 1, 2, 3)}


def test_a_recommendation_is_chosen_from_once_and_views_and_skips_choose_nothing() -> None:
    world = World()
    world.shows("a", "i1", "i2")
    for event in ("view", "skip", "dislike"):
        world.takes("a", "i1", event)
    assert world.counts == {"r1": counted(1)}
    for event in ("click", "purchase", "like"):
        world.takes("a", "i2", event)
    assert world.counts == {"r1": counted(1, 1, 0, 1, 1)}


def test_feedback_on_what_another_process_answered_counts_by_the_clients_word_once() -> None:
    world = World()
    world.takes("elsewhere", "i1")
    world.takes("elsewhere", "i1", rank=2)
    assert world.counts == {}, "nobody knows its place, or its revision"
    world.takes("elsewhere", "i1", rank=2, revision="r2")
    world.takes("elsewhere", "i1", rank=1, revision="r2")
    assert world.counts == {"r2": counted(0, 1, 0, 1, 1)}


@pytest.mark.bad_input
def test_revisions_that_there_are_not_are_not_counted() -> None:
    world = World()
    for n in range(1000):
        world.takes(f"x{n}", "i1", rank=1, revision=f"invented-{n}")
        world.takes(f"y{n}", "i1", rank=1, revision="r" * 900)
    assert world.counts == {}


def test_the_window_rolls() -> None:
    world = World()
    world.shows("a", "i1")
    world.time = WINDOW_SECONDS - 1
    world.shows("b", "i1")
    assert world.counts == {"r1": counted(2)}
    world.time = WINDOW_SECONDS
    assert world.counts == {"r1": counted(1)}
    world.time = 3 * WINDOW_SECONDS
    assert world.counts == {}


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 10)
    world = World()
    for n in range(100):
        world.shows(f"a{n}", "i1")
        world.takes(f"b{n}", "i1", rank=1, revision="r1")
    world.takes("a0", "i1")
    assert world.counts == {"r1": counted(100, 100, 100, 100, 100)}, "the oldest is forgotten"
    assert len(world.online._shown) == len(world.online._claimed) == 10


@pytest.mark.bad_input
def test_invented_feedback_pushes_nothing_out_and_outweighs_only_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 200)
    world = World()
    for n in range(100):
        world.shows(f"a{n}", "i1")
    for n in range(5000):
        world.takes(f"invented{n}", "i1", rank=9, revision="r1")
    for n in range(100):
        world.takes(f"a{n}", "i1")
    claims = 100 * module.CLAIMS_PER_RECOMMENDATION
    assert world.counts == {"r1": counted(100, claims + 100, 100, 100, 100)}
    world.time = WINDOW_SECONDS + module.BUCKET_SECONDS
    world.takes("later", "i1", rank=1, revision="r1")
    assert world.counts == {"r1": counted(0, 1, 1, 1, 1)}, "what was claimed leaves the window as all does"


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(1, 9), st.sampled_from(list(FeedbackEvent)), st.booleans()),
        max_size=40,
    )
)
def test_whatever_comes_makes_a_report(events: list[tuple[str, int, FeedbackEvent, bool]]) -> None:
    world = World()
    for request_id, n, event, shown in events:
        world.time += 700
        if shown:
            world.shows(request_id, *(f"i{k}" for k in range(1, 8)), revision="r1" if n % 2 else "r2")
        world.takes(request_id, f"i{n}", str(event), rank=n, revision="r2")
    report = OnlineReport(target=TARGET, instance="pod", revisions=world.online.counts())
    assert OnlineReport.model_validate_json(report.model_dump_json(by_alias=True)) == report
    assert len(report.revisions) <= MAX_REVISIONS
    assert all(one.chosen >= one.hits5 for one in report.revisions.values())


@pytest.mark.bad_input
@pytest.mark.parametrize("counts", [{"chosen": -1}, {"hits1": 2, "chosen": 1}, {"hits5": 1}, {"chosen": 2**60}])
def test_counts_that_cannot_be_are_refused(counts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"chosen|hits"):
        OnlineCounts.model_validate(counts)


@pytest.mark.parametrize(("answers", "sent"), [([503, 429, 202], 3), ([403, 202], 1), ([503] * 9, 4)])
async def test_a_report_that_reached_a_replica_that_stands_by_is_sent_again(
    answers: list[int], sent: int, tmp_path: Path
) -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(answers[len(requests) - 1], headers={"Retry-After": "0"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        report = OnlineReport(target=TARGET, instance="pod", revisions={"r1": OnlineCounts()})
        await send(client, report, tmp_path / "none")
    assert len(requests) == sent
