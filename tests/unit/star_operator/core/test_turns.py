"""How many may be at work at once, and who is next."""

from hypothesis import given
from hypothesis import strategies as st

from star_operator.core.queue import Key
from star_operator.core.turns import SECONDS, Turns


def key(name: str, namespace: str = "a") -> Key:
    return Key("Checkpoint", namespace, name)


def test_a_namespace_has_so_many_and_all_have_so_many() -> None:
    turns = Turns(each=2, in_all=3)
    assert [turns.take(key(name)) for name in "123"] == [True, True, False]
    assert [turns.take(key(name, "b")) for name in "12"] == [True, False]
    assert turns.take(key("1")), "it has its turn already"


def test_who_came_first_is_next_where_there_is_room() -> None:
    turns = Turns(each=1, in_all=2)
    for name, namespace in (("1", "a"), ("1", "b"), ("2", "a"), ("2", "b"), ("1", "c")):
        turns.take(key(name, namespace))
    assert turns.leave(key("1", "b")) == key("2", "b"), "there is no room for the other ones of a"
    assert turns.leave(key("2", "b")) == key("1", "c"), "who goes is in line no more"
    assert turns.take(key("1", "c"))
    assert turns.leave(key("gone")) is None
    assert turns.leave(key("1")) == key("2")


def test_what_is_at_work_after_a_restart_counts() -> None:
    turns = Turns(each=1, in_all=1)
    turns.hold(key("1"))
    turns.hold(key("1"))
    assert not turns.take(key("2"))
    assert turns.leave(key("1")) == key("2")
    assert turns.take(key("2"))


def test_a_long_line_is_spread_over_a_longer_time() -> None:
    turns = Turns(each=1, in_all=1)
    turns.hold(key("0"))
    assert SECONDS * 0.75 <= turns.pause(key("1")) < SECONDS * 1.25
    for number in range(10_000):
        turns.take(key(str(number)))
    pauses = {turns.pause(key(str(number))) for number in range(1000)}
    assert min(pauses) > 50 * SECONDS
    assert len(pauses) > 100


@given(st.lists(st.tuples(st.sampled_from("th"), st.sampled_from("ab"), st.sampled_from("1234")), max_size=60))
def test_it_is_never_more_than_that(moves: list[tuple[str, str, str]]) -> None:
    turns, held = Turns(each=2, in_all=3), set[Key]()
    for move, namespace, name in moves:
        one = key(name, namespace)
        if move == "h":
            held.discard(one)
            woken = turns.leave(one)
            assert woken is None or woken not in held
        elif turns.take(one):
            held.add(one)
        assert len(held) <= 3
        assert all(sum(k.namespace == n for k in held) <= 2 for n in "ab")
