import io
from threading import Barrier, Thread

import pytest
from rich.console import Console

from star_cli.beside import Beside
from star_cli.local import progress
from star_cli.local.progress import Terminal
from star_cli.local.timeline import Leg, Timeline


def lines(terminal: Terminal) -> list[str]:
    output = terminal.console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue().splitlines()


def plain(timeline: Timeline | None = None) -> Terminal:
    return Terminal(Console(file=io.StringIO(), width=200), timeline)


def test_without_a_terminal_each_step_is_two_lines() -> None:
    terminal = plain()
    with terminal.step("build"):
        pass
    first, second = lines(terminal)
    assert first == "... build"
    assert second.startswith("ok  build ")
    assert [title for title, _ in terminal.took] == ["build"]


def test_every_line_tells_how_much_of_the_whole_is_left() -> None:
    terminal = plain(Timeline([Leg("build", 600.0), Leg("run", 1200.0)]))
    with terminal.step("build", "build") as step:
        step.advance(1, 2)
    with terminal.step("run", "run"):
        pass
    assert "0% of all, about 30:00 left" in lines(terminal)[0]
    assert "33% of all, about " in lines(terminal)[2]


def test_a_long_step_says_now_and_then_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    terminal = plain()
    with terminal.step("build") as step:
        step.advance(3, 12, "packages")
    assert "... build  3/12 packages" in lines(terminal)


def test_what_failed_is_not_done() -> None:
    timeline = Timeline([Leg("build", 10.0)])
    terminal = plain(timeline)
    with pytest.raises(ValueError, match="no"), terminal.step("build", "build"):
        raise ValueError("no")
    assert timeline.share == 0.0
    assert lines(terminal)[-1].startswith("no  build")


def test_steps_of_two_threads_share_one_bar() -> None:
    timeline = Timeline([Leg("a", 10.0), Leg("b", 10.0)])
    terminal = Terminal(Console(file=io.StringIO(), force_terminal=True, width=200), timeline)
    together = Barrier(2)

    def work(name: str) -> None:
        with terminal.step(f"step {name}", name) as step:
            together.wait(10)
            step.advance(1, 2, "parts")
            together.wait(10)

    threads = [Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert timeline.share == 1.0
    assert {title for title, _ in terminal.took} == {"step a", "step b"}


def test_work_beside_gives_its_result_or_its_error() -> None:
    def fails() -> int:
        raise ValueError("images")

    assert Beside(lambda: 7).result() == 7
    with pytest.raises(ValueError, match="images"):
        Beside(fails).result()
