"""What pages say of fields, defaults and times is what the API, the objects and the code say."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute

from star_contracts.job import ModelSource
from star_contracts.serving import GatewayConfig
from star_contracts.settings import TaskSettings
from star_jobs.serve import feedback, gateway
from star_jobs.serve.app import router
from star_jobs.serve.metrics import Metrics
from star_operator.api.crd import crd
from star_operator.api.kinds import KINDS
from star_operator.api.recdataset import DatasetSource
from star_operator.api.stardeployment import StarDeployment
from star_operator.api.values import values_schema
from star_operator.builders import gateway as gateway_builder
from star_operator.builders.stardeployment import revision_of, serving_objects
from star_operator.builders.step import Inputs
from star_operator.core.queue import WorkQueue
from star_operator.policy.rollout import DRAIN
from star_operator.policy.run import RETRY_BASE_SECONDS
from tests.support.goldens import ARTIFACTS, CHECKPOINT, parse, settings

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "reference.md")
BLOCKS = ("spec", "status", "server", "gateway", "gates", "compute", "llm", "rollout", "hyperparameters", "leakage")
BLOCKS += ("podTemplate", "pods", "podSecurity")
"""Words that begin a field's path in prose, where a page does not say all of it."""
_PATH = re.compile(rf"`((?:{'|'.join(BLOCKS)})(?:\.[a-z][A-Za-z0-9]*)+)(?::? [^`]*)?`")


def api_paths() -> set[str]:
    """Every path of spec and status of every kind, and of the chart's values."""
    found: set[str] = set()
    for kind in KINDS:
        schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        found |= {path for part in ("spec", "status") for path in _paths(schema[part], part)}
    values = values_schema()
    return found | set(_value_paths(values, values["$defs"], "", 0))


def _paths(schema: dict[str, Any], path: str) -> Iterator[str]:
    yield path
    for name, item in schema.get("properties", {}).items():
        yield from _paths(item, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _paths(schema[key], path)


def _value_paths(schema: dict[str, Any], defs: dict[str, Any], path: str, depth: int) -> Iterator[str]:
    node = {**defs[schema["$ref"].rpartition("/")[2]], **schema} if "$ref" in schema else schema
    yield path
    if depth > 6:
        return
    for name, item in node.get("properties", {}).items():
        yield from _value_paths(item, defs, f"{path}.{name}".lstrip("."), depth + 1)


API = api_paths()


def known(path: str) -> bool:
    return any(one == path or one.endswith(f".{path}") for one in API)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_field_that_a_page_names_is_there(page: Path) -> None:
    named = set(_PATH.findall(page.read_text()))
    assert sorted(path for path in named if not known(path)) == []


def test_the_names_of_fields_are_looked_for() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    assert {"server.replicas", "spec.activeDeadlineSeconds", "gateway.deadlineSeconds"} <= set(_PATH.findall(text))
    assert not known("server.copies")
    assert known("pods.labels")


SECONDS = f"{RETRY_BASE_SECONDS:g}, {2 * RETRY_BASE_SECONDS:g}, {4 * RETRY_BASE_SECONDS:g} ... s"
GRACE = gateway_builder.FINISH_SECONDS
TASKS = TaskSettings()
MALFORMED = DatasetSource.model_fields["max_malformed"].default
DELAYS = inspect.signature(WorkQueue).parameters
PROMISES = [
    ("operator.md", f"after {SECONDS}, `spec.retries` times"),
    ("operator.md", f"kept for {DRAIN.total_seconds():g} seconds until every gateway"),
    ("operator.md", f"back-off from {DELAYS['base_delay'].default:g} s to {DELAYS['max_delay'].default / 60:g} min"),
    ("gateway.md", f"The file is looked at every {gateway.POLL_SECONDS:g} s"),
    ("gateway.md", f"`drainSeconds + deadlineSeconds + {GRACE}` seconds of grace"),
    ("gateway.md", f"({feedback.FLUSH_EVENTS} events or {feedback.FLUSH_SECONDS:g} s)"),
    ("gateway.md", f"up to {feedback.MAX_WAITING:,} events wait"),
    (
        "datasets.md",
        f"`spec.source.maxMalformed` ({DatasetSource.model_fields['max_malformed'].default:.0%} by default)",
    ),
    (
        "datasets.md",
        f"1 + {TASKS.candidates - 1} candidates and {TASKS.test} test tasks for each type are the defaults",
    ),
]
"""Page and sentence, with the figures that the code has."""


@pytest.mark.parametrize(("page", "sentence"), PROMISES)
def test_figures_in_sentences_are_those_of_the_code(page: str, sentence: str) -> None:
    flat = " ".join((ROOT / "docs" / page).read_text().split())
    assert sentence in flat


def gateway_page() -> str:
    return (ROOT / "docs" / "gateway.md").read_text()


def test_the_endpoints_of_the_page_are_those_of_the_gateway() -> None:
    rows = [line for line in gateway_page().splitlines() if re.match(r"\| `(GET|POST) /", line)]
    named = {path for row in rows for path in re.findall(r"/[a-z0-9/:]+(?=[`,])", row.split(" | ")[0])}
    assert named == {route.path for route in router.routes if isinstance(route, APIRoute)}


def test_the_metrics_of_the_page_are_those_of_the_gateway() -> None:
    named = set(re.findall(r"`(star_gateway_\w+)`", gateway_page().partition("## Metrics")[2]))
    shown = {line.split()[2] for line in Metrics().render().decode().splitlines() if line.startswith("# TYPE star_")}
    assert named == {name for name in shown if not name.endswith("_created")}


def test_grace_is_long_enough_for_the_drain_that_the_page_promises() -> None:
    body = {"apiVersion": "v1", "kind": "StarDeployment", "metadata": {"name": "star"}}
    spec = {"checkpoint": {"checkpoint": "c"}, "dataset": {"name": "d"}, "gateway": {"deadlineSeconds": 600}}
    cr = parse({**body, "spec": spec})
    assert isinstance(cr, StarDeployment)
    made = serving_objects(cr, [revision_of(cr, ModelSource(artifact=CHECKPOINT))], Inputs(ARTIFACTS), settings())
    front = next(obj for obj in made if (obj["kind"], obj["metadata"]["name"]) == ("Deployment", "star"))
    grace = front["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= GatewayConfig.model_fields["drain_seconds"].default + 600 + GRACE
