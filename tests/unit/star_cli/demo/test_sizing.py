"""The demo's size follows from the machine's speed."""

from pathlib import Path

import pytest
from rich.console import Console

from star_cli.demo import cli, speed
from star_cli.demo.manifests import Size, key, load
from star_cli.demo.run import Options, settled_size
from star_cli.demo.sizing import AIM_SECONDS, FITTED, LIMIT_SECONDS, estimate, lines, plan, slowness
from star_cli.demo.speed import Speed
from star_cli.errors import StarctlError
from star_contracts.processor import parse
from tests.support import processors
from tests.support.pace import stretched

ROOT = Path(__file__).parents[4]


def machine(cores: int = 2, products: float = 180, loops: float = 13, cpuinfo: str = processors.AVX512_BF16) -> Speed:
    """A machine; by default the reference."""
    return Speed(cores, products, loops, parse(cpuinfo))


@pytest.mark.parametrize(
    ("measured", "size"),
    [
        (machine(), Size.DEMO),
        (machine(cores=16, products=1500, loops=20, cpuinfo=processors.AMX), Size.DEMO),
        (machine(cpuinfo=processors.AVX512), Size.DEMO),
        (machine(products=90, cpuinfo=processors.AVX2), Size.THREE_QUARTERS),
        (machine(products=60, loops=12), Size.THREE_QUARTERS),
        (machine(products=60, loops=10, cpuinfo=processors.AVX2), Size.HALF),
        (machine(products=40, loops=8, cpuinfo=processors.ARM_WITHOUT), Size.QUARTER),
        (machine(cores=1, products=50, loops=10, cpuinfo=processors.AVX2), Size.TINY),
        (machine(cores=1, products=4, loops=2, cpuinfo=processors.AVX2), Size.TINY),
    ],
)
def test_the_largest_size_that_ends_in_time_is_chosen(measured: Speed, size: Size) -> None:
    found = plan(ROOT, measured)
    assert found.size is size
    assert found.seconds <= AIM_SECONDS or size is FITTED[-1]
    assert found.limit_seconds == max(LIMIT_SECONDS, 2 * found.seconds)


def test_the_reference_machine_takes_what_was_measured_on_it() -> None:
    assert slowness(machine()) == (1.0, pytest.approx(1.0))
    assert estimate(load(ROOT, Size.DEMO), machine()) == pytest.approx(1204, rel=0.1)  # docs/demo.md


def test_each_smaller_size_takes_less_time_and_smaller_machines_take_more() -> None:
    for measured in (machine(), machine(cores=1, products=20, loops=5, cpuinfo=processors.AVX2)):
        times = [estimate(load(ROOT, size), measured) for size in (Size.LEARNING, *FITTED)]
        assert times == sorted(times, reverse=True)
    ladder = [machine(), machine(cpuinfo=processors.AVX2), machine(products=50, cpuinfo=processors.AVX2)]
    ladder += [machine(products=50, loops=6, cpuinfo=processors.AVX2), machine(1, 50, 6, processors.AVX2)]
    times = [estimate(load(ROOT, Size.DEMO), measured) for measured in ladder]
    assert times == sorted(times)


def test_a_size_that_was_asked_for_is_kept_and_gets_the_time_that_it_takes() -> None:
    slow = machine(products=20, loops=6, cpuinfo=processors.AVX2)
    found = plan(ROOT, slow, Size.LEARNING)
    assert found.size is Size.LEARNING
    assert found.limit_seconds == 2 * found.seconds > LIMIT_SECONDS


def test_a_slow_machines_gateway_has_patience() -> None:
    slow = plan(ROOT, machine(products=30, loops=6, cpuinfo=processors.AVX2))
    star = {key(one): one["spec"] for one in load(ROOT, slow.size, slow.patience)}["StarDeployment", "star"]
    assert star["gateway"]["deadlineSeconds"] > 60
    assert star["gateway"]["maxInFlight"] == 8, "the rest stays"
    assert plan(ROOT, machine()).patience == {}


def test_the_choice_is_said_in_two_lines() -> None:
    measured = machine(products=60, loops=10, cpuinfo=processors.AVX2)
    said = lines(plan(ROOT, measured), measured)
    assert len(said) == 2
    assert "float32 (EPYC 7002 has none of amx_bf16, avx512_bf16, bf16)" in said[0]
    assert "size half, about 25:54, given 1:00:00" in said[1]


def test_small_sizes_ask_the_gate_for_what_they_can_prove() -> None:
    def rules(size: Size) -> list[str]:
        star = {key(one): one["spec"] for one in load(ROOT, size)}["StarDeployment", "star"]
        return [rule["metric"] for rule in star["gates"]["rules"]]

    assert rules(Size.THREE_QUARTERS) == rules(Size.DEMO) == ["against.ciLow", "valid", "hrAvg"]
    assert rules(Size.HALF) == rules(Size.QUARTER) == ["against.ciLow"]


def test_an_earlier_runs_size_is_gone_on_with_unless_another_is_asked_for() -> None:
    asked, fitted = Options(ROOT, size=Size.DEMO), Options(ROOT, size=Size.DEMO, size_given=False)
    for earlier in (None, "demo", "of another version"):
        assert settled_size(earlier, asked) is settled_size(earlier, fitted) is Size.DEMO
    assert settled_size("half", fitted) is Size.HALF
    with pytest.raises(StarctlError, match=r"star-demo holds a demo of size half.*another --namespace"):
        settled_size("half", asked)


def test_this_machine_is_measured_and_what_follows_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0.05)
    found = speed.measure()
    assert min(found.cores, found.products, found.loops) > 0
    assert found.processor.features
    options = cli.fitted(ROOT, "ns", None, Console(width=300))
    assert options.size in FITTED
    assert not options.size_given
    assert f"the chain: size {options.size}, about" in capsys.readouterr().out


def test_a_cluster_elsewhere_runs_the_demo_as_written(capsys: pytest.CaptureFixture[str]) -> None:
    options = cli.fitted(ROOT, "ns", None, None)
    assert (options.size, options.deadline_seconds, options.patience) == (Size.DEMO, LIMIT_SECONDS, {})
    assert cli.fitted(ROOT, "ns", Size.LEARNING, None).size is Size.LEARNING
    assert capsys.readouterr().out == ""


def test_deadlines_of_the_end_to_end_tests_stretch_on_slow_machines_only() -> None:
    assert stretched(100, machine()) == stretched(100, machine(cores=16, products=900, loops=20)) == 100
    assert stretched(100, machine(products=60, loops=10, cpuinfo=processors.AVX2)) == pytest.approx(253, rel=0.01)
