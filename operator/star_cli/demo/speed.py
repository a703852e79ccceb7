"""How fast this machine is at what the demo's chain spends its time on, measured in a few seconds."""

import os
import threading
import time
from dataclasses import dataclass

from star_contracts.processor import Processor, this_processor

SECONDS = 1.5
"""Length of each of the two measurements."""
_SIDE = 64
"""Products this small are computed by the thread that asks: what is measured is not how threads wait for each other."""
_STACK = 256
_LOOP = 20_000


@dataclass(frozen=True)
class Speed:
    """What was measured, with whatever else runs on the machine running meanwhile."""

    cores: int
    """Cores that this process may use."""
    products: float
    """Matrix products in float32, one thread a core, in 1e9 operations a second."""
    loops: float
    """Turns of a loop of the Python interpreter, one thread, in millions a second."""
    processor: Processor


def measure(seconds: float | None = None) -> Speed:
    """Measure this machine; takes twice `seconds`, which is `SECONDS` by default."""
    seconds = seconds or SECONDS
    cores = len(os.sched_getaffinity(0))
    return Speed(cores, _products(cores, seconds), _loops(seconds), this_processor())


def _products(threads: int, seconds: float) -> float:
    import numpy as np  # only the demo needs it

    counts = [0] * threads
    end = time.perf_counter() + seconds

    def run(place: int) -> None:
        left, right = np.ones((_STACK, _SIDE, _SIDE), np.float32), np.ones((_SIDE, _SIDE), np.float32)
        out = np.empty_like(left)
        while not counts[place] or time.perf_counter() < end:  # on a busy machine it may begin after the end
            np.matmul(left, right, out=out)
            counts[place] += 1

    workers = [threading.Thread(target=run, args=(place,)) for place in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    operations = 2 * _STACK * _SIDE**3 * sum(counts)
    return operations / (time.perf_counter() - began) / 1e9


def _loops(seconds: float) -> float:
    began, turns, total = time.perf_counter(), 0, 0
    while time.perf_counter() - began < seconds:
        for number in range(_LOOP):
            total += number * number
        turns += _LOOP
    return turns / (time.perf_counter() - began) / 1e6
