"""Deadlines of tests that wait for models: those of the reference machine, longer on a slower one, never shorter."""

from functools import cache
from pathlib import Path

from star_cli.demo.manifests import Size
from star_cli.demo.sizing import Plan, plan, slowness
from star_cli.demo.speed import Speed, measure

ROOT = Path(__file__).parents[2]


@cache
def here() -> Speed:
    """Return how fast this machine is, measured once a session."""
    return measure()


def stretched(seconds: float, speed: Speed | None = None) -> float:
    """Return how long to wait on this machine for what takes the reference machine less than `seconds`."""
    return seconds * max(1.0, *slowness(speed or here()))


def tiny() -> Plan:
    """Return what the smallest demo is asked for on this machine; the same all through a session."""
    return plan(ROOT, here(), Size.TINY)
