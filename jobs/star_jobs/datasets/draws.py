"""Draws that stay as they are while a dataset grows: each depends on what is drawn, not on how many there are.

A draw by place (`random.sample` of a list) changes altogether when one more is in the list: a retraining would then ask
all questions anew. So every user has a number of its own for each draw, and those with the lowest numbers are drawn:
some more users take the places of as few. Items are drawn out of the order in which they arrived, to which new ones are
appended.
"""

import hashlib
import random
from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray

from star_jobs.datasets.ids import Ids

_TRIES = 50
"""Vain ones for each item wanted, before what is left is listed."""


def numbers(ids: Ids) -> NDArray[np.uint64]:
    """Return (ids,) a number of 64 bits for each id, which depends on the id alone."""
    drawn = (hashlib.blake2b(value.encode(), digest_size=8).digest() for value in ids)
    return np.frombuffer(b"".join(drawn), dtype="<u8").astype(np.uint64)


def lowest(numbers: NDArray[np.uint64], draw: str, count: int) -> NDArray[np.int64]:
    """Return the places of the `count` lowest numbers of the draw, lowest first; of all where there are no more.

    Each draw has an order of its own: its name is mixed into the numbers (the finalizer of splitmix64, Steele et al.
    2014, doi:10.1145/2660193.2660195).
    """
    salt = int.from_bytes(hashlib.blake2b(draw.encode(), digest_size=8).digest(), "little")
    mixed = numbers ^ np.uint64(salt)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    if count < len(mixed):
        first = np.argpartition(mixed, count)[:count]
        return first[np.argsort(mixed[first], kind="stable")]
    return np.argsort(mixed, kind="stable")


def draw_some(arrived: NDArray[np.int32], barred: Collection[int], count: int, rng: random.Random) -> Iterator[int]:
    """Yield `count` different codes out of those that arrived, in their order; fewer where there are no more.

    A code that arrived several times is drawn as many times as likely. A place is drawn out of the next power of two,
    and another one where nothing has arrived yet: so further arrivals change no draw but those that hit them. After
    many vain tries what is left is listed, each code once.
    """
    seen, tries = set(barred), _TRIES * count
    places = 1 << max(0, len(arrived) - 1).bit_length()
    while count > 0 and tries > 0 and len(arrived):
        at = rng.randrange(places)
        tries -= 1
        if at < len(arrived) and (code := int(arrived[at])) not in seen:
            seen.add(code)
            count -= 1
            yield code
    if count > 0:
        left = dict.fromkeys(arrived[~np.isin(arrived, list(seen))].tolist())
        yield from rng.sample(list(left), min(count, len(left)))
