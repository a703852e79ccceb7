"""Actors whose steps are interleaved by a seed: each is a thread, and one of them runs at a time.

An actor's real code runs as it is; what it shares with others (store, cluster) calls `turn` before each request. Which
actor goes on then is drawn from the seed, and so is whether it crashes there. The same seed gives the same run.
"""

import random
import threading
from collections.abc import Callable

DEADLINE_SECONDS = 60.0
PACES, CHANGES = (0, 0, 1, 20), (0.2, 0.04, 0.008)
"""How fast actors go, some not at all, and how likely that changes at a step, one of these in each run. What goes wrong
between two requests of one actor while another makes a hundred is never met where all go at one pace."""


class Crashed(BaseException):
    """The actor's process dies here."""


class Actor:
    """One process, in a thread of its own."""

    def __init__(self, world: "Interleaving", name: str, work: Callable[["Actor"], None], crashes: float) -> None:
        self.name, self._world, self._work, self._crashes = name, world, work, crashes
        self._go, self.dying, self.done = threading.Semaphore(0), False, False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def turn(self) -> None:
        """Wait until it is this actor's turn. Raises Crashed where its process dies."""
        if self.dying:
            raise Crashed
        self._world.paused.release()
        self._go.acquire()
        if self._world.random.random() < self._crashes:
            self.dying = True
            raise Crashed

    def revive(self) -> None:
        """The process is started anew."""
        self.dying = False

    def step(self) -> None:
        """Let it run to its next turn, or its end."""
        self._go.release()
        if not self._world.paused.acquire(timeout=DEADLINE_SECONDS):
            raise TimeoutError(f"{self.name} neither took a turn nor ended within {DEADLINE_SECONDS} s")

    def _run(self) -> None:
        self._go.acquire()
        try:
            self._work(self)
        except Crashed:
            pass
        except BaseException as error:
            self._world.errors.append(error)
        finally:
            self.done = True
            self._world.paused.release()


class Interleaving:
    """Runs actors to their ends, a step of one of them at a time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.paused = threading.Semaphore(0)
        self.errors: list[BaseException] = []
        self._actors: list[Actor] = []

    def add(self, name: str, work: Callable[[Actor], None], crashes: float = 0.0) -> None:
        """Add an actor; `crashes` is how likely it dies at any one turn."""
        self._actors.append(Actor(self, name, work, crashes))

    def run(self, check: Callable[[str], None]) -> int:
        """Interleave until all have ended, looking at the world after each step; returns how many steps it took."""
        for actor in self._actors:
            actor.start()
        steps = 0
        pace: dict[str, int] = {}
        changes = self.random.choice(CHANGES)
        while going := [actor for actor in self._actors if not actor.done]:
            if self.random.random() < changes or not any(pace.get(actor.name) for actor in going):
                pace = {actor.name: self.random.choice(PACES) for actor in self._actors}
                continue
            (actor,) = self.random.choices(going, [pace[actor.name] for actor in going])
            actor.step()
            steps += 1
            if self.errors:
                raise self.errors[0]
            check(actor.name)
        return steps
