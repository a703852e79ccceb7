"""A history of random promotions, conflicts, kills and merges against a real bare repository ends as the model says.

Kills are real ones: the run is a process of its own, which gets SIGKILL at a random point between two steps of git.
`make promotions` tries 200 promotions; STAR_PROMOTIONS and STAR_SEED give other numbers.
"""

import json
import os
import random
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

from star_contracts.promotion import Forge, ForgeKind, PromotionMode, PromotionSpec, PromotionState
from star_jobs.errors import TerminalFailure
from star_jobs.promote.edit import read
from star_jobs.promote.message import PROMOTION, trailers
from star_jobs.promote.program import GitProgram
from tests.support.gitmodel import KILLED, SEEN, UNSEEN, Disturbance, Model, Value
from tests.support.gitrepos import FILE, OLD, PATH, BareRepository, digest, promotion_spec, run_on
from tests.support.localforge import LocalForge

COUNT = int(os.environ.get("STAR_PROMOTIONS", "25"))
SEED = int(os.environ.get("STAR_SEED", "14"))
CHECKPOINTS = 5
"""Few, so that the same digest is promoted again and again."""


def value(number: int) -> Value:
    return f"s3://models/checkpoint-{number}", digest(number)


class History:
    """Does each thing to the repository and to the model."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.server = BareRepository.create(folder / "server.git", {PATH: FILE, "README.md": "begin"})
        self.forge = LocalForge(self.server)
        self.model = Model(place=("s3://models/old", OLD))
        self.specs: dict[str, PromotionSpec] = {}
        self.notes = 0

    def new(self, mode: PromotionMode) -> str:
        number, name = self.random.randint(1, CHECKPOINTS), f"p{len(self.specs)}"
        forge = Forge(kind=ForgeKind.GITEA) if mode is PromotionMode.PULL_REQUEST else None
        self.specs[name] = promotion_spec(self.server.url, number, name, mode=mode, forge=forge)
        self.model.wanted[name] = value(number)
        return name

    def disturbance(self) -> Disturbance:
        kind = self.random.choice(["note", "note", "value", "promotion"])
        if kind == "value":
            return Disturbance(value=value(self.random.randint(1, CHECKPOINTS)))
        if kind == "promotion":
            return Disturbance(promotion=self.new(PromotionMode.COMMIT))
        self.notes += 1
        return Disturbance(note=f"note {self.notes}")

    def disturb(self, by: Disturbance) -> None:
        if by.note:
            self.server.commit({"README.md": by.note}, by.note)
        if by.value is not None:
            self.write(by.value)
        if by.promotion:
            self.run(by.promotion, lambda _step: None)

    def write(self, wanted: Value) -> None:
        text = FILE.replace("s3://models/old", wanted[0]).replace(OLD, wanted[1])
        if self.server.show() != text:
            self.server.commit({PATH: text}, "by hand")

    def run(self, name: str, between: Callable[[str], None]) -> str:
        """Run a promotion on the real repository; return how it ends."""
        spec = self.specs[name]
        forge = self.forge if spec.forge else None
        try:
            return run_on(spec, self.folder / f"scratch-{os.getpid()}-{name}", forge=forge, between=between).state
        except TerminalFailure as failure:
            return failure.reason

    def step(self) -> None:
        """One random thing."""
        opened = [name for name, request in self.model.requests.items() if request.state is PromotionState.OPEN]
        what = self.random.choices(["commit", "open", "again", "merge", "close", "hand"], [40, 20, 15, 12, 3, 10])[0]
        if what == "hand" or (what in ("merge", "close") and not opened):
            by = Disturbance(value=value(self.random.randint(1, CHECKPOINTS)))
            self.disturb(by)
            self.model.disturb(by)
        elif what == "merge":
            self.merge(self.random.choice(opened))
        elif what == "close":
            name = self.random.choice(opened)
            self.forge.close(self.number(name), "superseded")
            self.model.requests[name].state = PromotionState.CLOSED
        elif what == "again" and self.specs:
            self.promote(self.random.choice(list(self.specs)))
        else:
            self.promote(self.new(PromotionMode.PULL_REQUEST if what == "open" else PromotionMode.COMMIT))

    def number(self, name: str) -> int:
        found = self.forge.find(self.specs[name].head_branch(), "main")
        assert found is not None
        return found.ref.number

    def merge(self, name: str) -> None:
        assert self.forge.merge(self.number(name)) == self.model.merge(name), name

    def promote(self, name: str) -> None:
        """Run a promotion that is disturbed and killed at random."""
        by_commit = self.specs[name].forge is None
        disturbances = [self.disturbance() for _ in range(self.random.choice([0, 0, 0, 1, 1, 2]))] if by_commit else []
        killed_at = self.random.choice([None, None, *UNSEEN, *SEEN]) if self.random.random() < 0.6 else None
        left = list(disturbances)

        def between(step: str) -> None:
            if step == "committed" and left:
                self.disturb(left.pop(0))

        found = self.in_a_process(name, between, killed_at) if killed_at else self.run(name, between)
        wanted = self.model.commit(name, disturbances, killed_at) if by_commit else self.model.open(name, killed_at)
        assert found == wanted, (name, killed_at)

    def in_a_process(self, name: str, between: Callable[[str], None], killed_at: str) -> str:
        """Run a promotion in a child that is killed when it comes to the point; return how it ends."""
        answer = self.folder / "answer.json"
        answer.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            try:
                answer.write_text(json.dumps(self.run(name, _killing(between, killed_at))))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        return json.loads(answer.read_text()) if answer.exists() else KILLED

    def check(self) -> None:
        """Compare what is in the repository with the model, and look for what must never be."""
        standing = read(self.server.show().encode(), self.specs["p0"].target)
        assert (standing.uri, standing.digest) == self.model.place
        messages = self.server.messages()
        own = [text for text in (trailers(message).get(PROMOTION) for message in messages) if text]
        names = sorted(text.split("/")[1] for text in own)
        assert names == sorted(name for name in self.model.log if name in self.specs), "none doubled, none lost"
        notes = sorted(message for message in messages if message.startswith("note "))
        assert notes == sorted(name for name in self.model.log if name.startswith("note ")), "nobody's is lost"
        by_hand = [name for name in self.model.log if name.startswith("by hand")]
        assert messages.count("by hand") == len(by_hand)
        ends = set(self.server.git("reflog", "show", "--format=%H", "main").split())
        assert ends <= set(self.server.git("rev-list", "main").split()), "never forced"
        heads = {self.specs[name].head_branch() for name in self.model.requests}
        assert self.server.branches() == heads | {"main"}
        states = {name: request.state for name, request in self.model.requests.items() if request.state}
        assert len(self.forge.all()) == len(states), "one request for each"
        for name, state in states.items():
            assert self.forge.get(self.number(name)).state == state


def _killing(between: Callable[[str], None], killed_at: str) -> Callable[[str], None]:
    """Return hooks that end this process at a point: after a step, or before a command of git."""
    attempt, own = GitProgram.attempt, os.getpid()
    pending = {killed_at}

    def watched(self: GitProgram, *arguments: str, **given: object) -> object:
        if killed_at in arguments[:1] and pending:
            os.kill(own, signal.SIGKILL)
        return attempt(self, *arguments, **given)  # type: ignore[arg-type]

    def hook(step: str) -> None:
        GitProgram.attempt = attempt  # type: ignore[method-assign]
        between(step)
        GitProgram.attempt = watched  # type: ignore[method-assign, assignment]
        if step == killed_at:
            os.kill(own, signal.SIGKILL)

    GitProgram.attempt = watched  # type: ignore[method-assign, assignment]
    return hook


def test_any_history_ends_as_the_model_says(tmp_path: Path) -> None:
    history = History(tmp_path, SEED)
    history.promote(history.new(PromotionMode.COMMIT))
    while len(history.specs) < COUNT:
        history.step()
    history.check()
    for name in list(history.specs):  # whatever was killed is started again, once more
        if history.random.random() < 0.3:
            history.promote(name)
    history.check()
