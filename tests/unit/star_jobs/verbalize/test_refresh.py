"""A Verbalization that goes on from an earlier one: only what changed is asked for."""

import shutil
from typing import Any

import polars as pl
import pytest

from star_contracts.artifact import ArtifactKind, ArtifactRef, Producer
from star_contracts.data import SignalKind
from star_contracts.errors import Reason, WarningReason
from star_contracts.result import ExitCode
from star_contracts.settings import (
    Sampling,
)
from star_jobs.datasets.snapshot import Dataset
from star_jobs.lookup import SignalStore
from star_jobs.storage import ArtifactWriter
from star_jobs.verbalize import prompting
from tests.support.fakellm import fake_llm
from tests.support.s3 import taken_port
from tests.unit.star_jobs.verbalize.conftest import Library, shown, sometimes, tidy


@pytest.fixture
def refreshed(library: Library) -> tuple[Library, ArtifactRef]:
    """A library, and the store that an earlier run over it left."""
    with fake_llm(tidy) as llm:
        library.verbalize(llm.endpoint())
    store = library.collect(output="before").artifact
    return library.newer(), store


def with_changed_neighbours(library: Library, user: str, places: tuple[int, int]) -> ArtifactRef:
    """The same neighbours, but for two of one user's, which change places."""
    folder = library.jobs.folder / "changed"
    shutil.copytree(library.jobs.fetch(library.neighbours), folder, ignore=shutil.ignore_patterns("manifest.json"))
    row = pl.read_parquet(folder / "users.parquet")["id"].to_list().index(user)
    part, keys = (folder / "user_cf" / f"{name}-000000000.arrow" for name in ("part", "keys"))
    found, pairs = pl.read_ipc(keys), pl.read_ipc(part)
    first = int(found.filter(pl.col("key") < row)["end"].max() or 0)
    one, two = (first + place for place in places)
    neighbours = pairs["neighbour"].to_numpy().copy()
    neighbours[[one, two]] = neighbours[[two, one]]
    pairs.with_columns(neighbour=neighbours).write_ipc(part)
    writer = ArtifactWriter(library.jobs.store, f"{library.jobs.uri}/changed")
    writer.add_tree(folder)
    producer = Producer(
        kind="Test", namespace="ns", name="n", uid="u", step="neighbours", work_hash="sha256:" + "0" * 64
    )
    manifest = writer.commit(ArtifactKind.NEIGHBOURS, producer, {}, {})
    return ArtifactRef(uri=writer.uri, digest=manifest.digest())


def test_a_refresh_asks_only_for_the_user_whose_neighbours_changed(refreshed: tuple[Library, ArtifactRef]) -> None:
    library, before = refreshed
    user = Dataset(library.jobs.fetch(library.dataset)).tasks("test")[0].user_id
    titles = {item.item_id: item.title for item in Dataset(library.jobs.fetch(library.dataset)).items.values()}
    library = library.newer(neighbours=with_changed_neighbours(library, user, (0, 1)))
    with fake_llm(tidy) as llm:
        done = library.verbalize(llm.endpoint(), previous=before)
        asked = [shown(request)[:2] for request in llm.requests]
    assert (done.result.metrics["made"], done.result.metrics["reused"]) == (1, 51)
    now = library.near(SignalKind.USER_CF)[user]
    assert len(asked) == 1
    assert [title.startswith(titles[item]) for title, item in zip(asked[0], now, strict=False)] == [True, True]
    collected = library.collect(previous=before)
    assert (collected.result.metrics["made"], collected.result.metrics["reused"]) == (1, 51)
    old, new = (SignalStore.open(library.jobs.fetch(ref)) for ref in (before, collected.artifact))
    for kind in SignalKind:
        for key in library.near(kind):
            same = old.get(kind, key) == new.get(kind, key)
            assert same == ((kind, key) != (SignalKind.USER_CF, user))


def test_a_refresh_in_which_nothing_changed_does_not_ask_for_the_model(
    refreshed: tuple[Library, ArtifactRef],
) -> None:
    library, before = refreshed
    with fake_llm(tidy) as llm, taken_port() as port:
        endpoint = llm.endpoint(ask_port=port)
        assert f"cannot listen on port {port}" in library.verbalize(endpoint).error.message, "from nothing it does"
        done = library.verbalize(endpoint, previous=before)
        assert (done.code, done.result.metrics["made"], llm.requests) == (ExitCode.DONE, 0, [])
        again = library.verbalize(endpoint)
    assert again.code == ExitCode.DONE, "all parts are there"


def test_neighbours_too_far_down_to_be_shown_change_no_words(refreshed: tuple[Library, ArtifactRef]) -> None:
    library, before = refreshed
    user = Dataset(library.jobs.fetch(library.dataset)).tasks("test")[0].user_id
    library = library.newer(neighbours=with_changed_neighbours(library, user, (8, 9)))
    with fake_llm(tidy) as llm:
        done = library.verbalize(llm.endpoint(), previous=before)
        assert llm.requests == []
    assert (done.result.metrics["made"], done.result.metrics["reused"]) == (0, 52)
    signal = SignalStore.open(library.jobs.fetch(library.collect(previous=before).artifact)).get(
        SignalKind.USER_CF, user
    )
    assert signal is not None
    assert signal.neighbours == library.near(SignalKind.USER_CF)[user], "the neighbours are today's all the same"


@pytest.mark.parametrize(
    "change", [{"sampling": Sampling(max_tokens=97)}, {"model": "another"}, {"template": "Say it otherwise."}]
)
def test_another_model_sampling_or_prompt_makes_everything_anew(
    change: dict[str, Any], refreshed: tuple[Library, ArtifactRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    library, before = refreshed
    if template := change.pop("template", None):
        messages = prompting.Prompter.messages
        monkeypatch.setattr(
            prompting.Prompter,
            "messages",
            lambda self, entry: [*messages(self, entry), {"role": "user", "content": template}],
        )
    with fake_llm(lambda request: '{"name": "Film", "summary": "Films", "items": "1"}') as llm:
        llm.models = (llm.models[0], "another")
        endpoint = llm.endpoint(**({"model": change.pop("model")} if "model" in change else {}))
        done = library.verbalize(endpoint, previous=before, **change)
    assert (done.result.metrics["made"], done.result.metrics["reused"]) == (52, 0)


def test_an_entry_without_words_is_asked_for_again(library: Library) -> None:
    with fake_llm(sometimes(4, "not json")) as llm:
        without = library.verbalize(llm.endpoint()).result.metrics["withoutWords"]
    before = library.collect(output="before").artifact
    library = library.newer()
    with fake_llm(tidy) as llm:
        done = library.verbalize(llm.endpoint(), previous=before)
    assert 0 < without == done.result.metrics["made"]
    assert done.result.metrics["withoutWords"] == 0


def test_a_store_that_is_gone_is_done_without_and_a_warning_says_so(refreshed: tuple[Library, ArtifactRef]) -> None:
    library, before = refreshed
    library.jobs.store.delete(f"{before.uri}/manifest.json")
    with fake_llm(tidy) as llm:
        done = library.verbalize(llm.endpoint(), previous=before)
    assert (done.code, done.result.metrics["made"], done.result.metrics["reused"]) == (ExitCode.DONE, 52, 0)
    assert [warning.reason for warning in done.result.warnings] == [WarningReason.PREVIOUS_GONE]
    assert f"{before.uri} holds no manifest.json" in done.result.warnings[0].message
    collected = library.collect(previous=before)
    assert (collected.result.metrics["made"], collected.result.metrics["reused"]) == (52, 0)
    assert collected.result.warnings == (), "an artifact is not the worse for it"


def test_parts_made_with_another_store_before_are_kept_and_told_from_those_taken_over(
    refreshed: tuple[Library, ArtifactRef],
) -> None:
    library, before = refreshed
    with fake_llm(lambda request: '{"name": "Film", "summary": "Other words", "items": "1"}') as llm:
        library.verbalize(llm.endpoint(), shards=2, index=0)
    made = library.parts()
    with fake_llm(tidy) as llm:
        for index in (0, 1):
            library.verbalize(llm.endpoint(), shards=2, index=index, previous=before)
        assert llm.requests == [], "the first shard's parts are there, and the second's are in the store"
    assert {name: data for name, data in library.parts().items() if name in made} == made
    collected = library.collect(previous=before).result.metrics
    of_first = sum(len((data or b"").splitlines()) for data in made.values())
    assert (collected["made"], collected["reused"]) == (of_first, 52 - of_first)


@pytest.mark.bad_input
def test_something_else_than_a_store_cannot_be_refreshed(library: Library) -> None:
    with fake_llm(tidy) as llm:
        done = library.verbalize(llm.endpoint(), previous=library.dataset)
    assert (done.code, done.error.reason) == (ExitCode.TERMINAL, Reason.ARTIFACT_CORRUPTED)
    assert "not a look-up store" in done.error.message
