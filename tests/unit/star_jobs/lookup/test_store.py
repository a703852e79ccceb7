"""The look-up store: what goes in comes out, quickly, and damage is noticed."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from star_contracts.data import Item, Signal, SignalCategory, SignalKind
from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure
from star_jobs.lookup import SignalStore, layout, render_signal, write_store


def signal(kind: SignalKind, key: str, text: str = "tales of space") -> Signal:
    category = SignalCategory(name="Space", summary=text, representative_items=("172", "181"))
    return Signal(kind=kind, key=key, categories=(category,), neighbours=("172", "181", "50"))


def many(count: int) -> Iterator[Signal]:
    return (signal(kind, f"key-{n}", f"text {n % 97}") for n in range(count // 2) for kind in SignalKind)


text = st.text(st.characters(codec="utf-8"), max_size=30)
signals = st.builds(
    Signal,
    kind=st.sampled_from(SignalKind),
    key=text,
    categories=st.lists(st.builds(SignalCategory, name=text, summary=text), max_size=3).map(tuple),
    neighbours=st.lists(text, max_size=5).map(tuple),
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=st.lists(signals, max_size=40, unique_by=lambda s: (s.kind, s.key)), others=st.lists(text, max_size=5))
def test_what_goes_in_comes_out(written: list[Signal], others: list[str], tmp_path: Path) -> None:
    write_store(tmp_path, written)
    store = SignalStore.open(tmp_path)
    there = {(s.kind, s.key) for s in written}
    for one in written:
        assert store.get(one.kind, one.key) == one
    for key in others:
        for kind in SignalKind:
            assert (store.get(kind, key) is not None) == ((kind, key) in there)
    assert sum(store.entries.values()) == len(written)


def test_users_and_items_with_the_same_id_are_apart(tmp_path: Path) -> None:
    write_store(tmp_path, [signal(SignalKind.ITEM_CF, "1", "item"), signal(SignalKind.USER_CF, "1", "user")])
    store = SignalStore.open(tmp_path)
    found = {kind: store.get(kind, "1") for kind in SignalKind}
    assert {kind: s and s.categories[0].summary for kind, s in found.items()} == {
        SignalKind.ITEM_CF: "item",
        SignalKind.USER_CF: "user",
    }


def test_equal_hashes_are_told_apart_by_their_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "entry_hash", lambda kind, key: 7)
    write_store(tmp_path, [signal(SignalKind.ITEM_CF, f"k{n}", f"t{n}") for n in range(5)])
    store = SignalStore.open(tmp_path)
    for n in range(5):
        assert store.get(SignalKind.ITEM_CF, f"k{n}") == signal(SignalKind.ITEM_CF, f"k{n}", f"t{n}")
    assert store.get(SignalKind.ITEM_CF, "k9") is None


def test_opening_and_looking_up_are_quick(tmp_path: Path) -> None:
    count = 100_000
    write_store(tmp_path, many(count))
    began = time.perf_counter()
    store = SignalStore.open(tmp_path)
    opened = time.perf_counter() - began
    rng = random.Random(0)
    times: list[float] = []
    for _ in range(5000):
        key = f"key-{rng.randrange(count // 2)}"
        began = time.perf_counter()
        assert store.get(SignalKind.USER_CF, key) is not None
        times.append(time.perf_counter() - began)
    p99 = sorted(times)[int(len(times) * 0.99)]
    assert opened < 0.1, f"open took {opened * 1000:.1f} ms"
    assert p99 < 0.001, f"p99 look-up took {p99 * 1e6:.0f} µs"


def test_records_are_compressed_with_what_they_share(tmp_path: Path) -> None:
    write_store(tmp_path, many(10_000))
    plain = sum(len(s.model_dump_json(by_alias=True)) for s in many(10_000))
    packed = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert packed < plain / 2


def test_an_empty_store_answers_nothing(tmp_path: Path) -> None:
    write_store(tmp_path, [])
    assert SignalStore.open(tmp_path).get(SignalKind.ITEM_CF, "1") is None


@pytest.mark.bad_input
@pytest.mark.parametrize("damage", ["missing", "meta", "cut", "magic", "version"])
def test_a_damaged_store_is_refused(damage: str, tmp_path: Path) -> None:
    write_store(tmp_path, many(1000))
    index = tmp_path / layout.index_file(3)
    if damage == "missing":
        index.unlink()
    elif damage == "meta":
        (tmp_path / layout.META).write_text("{}")
    elif damage == "cut":
        index.write_bytes(index.read_bytes()[:-4])
    elif damage == "magic":
        index.write_bytes(b"NOTANIDX" + index.read_bytes()[8:])
    else:
        (tmp_path / layout.META).write_text('{"formatVersion": 2, "entries": {}}')
    with pytest.raises(TerminalFailure, match="not a look-up store") as failure:
        SignalStore.open(tmp_path)
    assert failure.value.reason is Reason.ARTIFACT_CORRUPTED


@pytest.mark.bad_input
def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    write_store(tmp_path, [signal(SignalKind.ITEM_CF, "1")])
    for path in tmp_path.glob("*.dat"):
        path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(TerminalFailure, match="damaged"):
        SignalStore.open(tmp_path).get(SignalKind.ITEM_CF, "1")


ITEMS = {i: Item(item_id=i, title=t) for i, t in (("172", "Empire"), ("181", "Jedi"), ("50", "Star Wars"))}


def test_a_signal_in_words() -> None:
    assert render_signal(signal(SignalKind.ITEM_CF, "1"), ITEMS, 500) == (
        "Liked together: Space: tales of space (172 Empire, 181 Jedi); 50 Star Wars;"
    )
    bare = Signal(kind=SignalKind.USER_CF, key="1", categories=(), neighbours=("50", "99"))
    assert render_signal(bare, ITEMS, 500) == "Similar users like: 50 Star Wars; 99;"


@given(signals, st.integers(1, 400))
def test_words_keep_to_the_limit_and_are_never_empty(one: Signal, limit: int) -> None:
    assert 1 <= len(render_signal(one, ITEMS, limit)) <= limit


@pytest.mark.case("odd-ids")
def test_any_id_is_a_key_and_any_key_may_be_asked_for(tmp_path: Path) -> None:
    odd = ['reader "1"', "sku<5>", "shop\\6", "x" * 230, "a\nb", "nul\0", "🙂"]
    write_store(tmp_path, [signal(SignalKind.ITEM_CF, key) for key in odd])
    store = SignalStore.open(tmp_path)
    assert [store.get(SignalKind.ITEM_CF, key) is not None for key in odd] == [True] * len(odd)
    assert store.get(SignalKind.USER_CF, "half an emoji \ud83d") is None
