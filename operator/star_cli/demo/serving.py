"""One live recommendation through the gateway, and the proof of whose weights answered it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict

from star_cli.demo.figures import Files
from star_cli.demo.importing import Cluster
from star_cli.demo.store import json_lines
from star_cli.errors import StarctlError
from star_cli.resources import StarResource, title
from star_contracts.artifact import ArtifactRef

_GRACE_SECONDS = 60.0
"""Beyond the gateway's deadline: it is the gateway that has to answer, with an error if need be."""
_CONNECT_SECONDS = 3.0
_TEXT = 400


@dataclass(frozen=True)
class Question:
    """A test task as a request: who, and which films to rank."""

    user_id: str
    candidates: tuple[str, ...]
    chosen: str
    """What the user did choose; the gateway is not told."""


class Ranked(BaseModel):
    """One place of the ranking."""

    rank: int
    item_id: str
    title: str


class Section(BaseModel):
    """One phase of the student's reasoning."""

    section: str
    thinking: str
    output: str


class Answer(BaseModel):
    """The parts of the gateway's answer that are shown (docs/gateway.md)."""

    model_config = ConfigDict(extra="ignore")

    ranking: list[Ranked]
    source: str
    valid: bool
    reasoning: list[Section] = []
    format_error: str | None = None
    text: str | None = None
    tool_calls: list[dict[str, Any]] = []
    revision: str
    checkpoint: str
    latency_seconds: float


def first_question(dataset: ArtifactRef, files: Files) -> Question:
    """The dataset's first test task."""
    task = next(json_lines(files.file(dataset, "tasks/test.jsonl")))
    truth = {entry["taskId"]: entry["itemId"] for entry in json_lines(files.file(dataset, "truth/test.jsonl"))}
    return Question(task["userId"], tuple(task["candidates"]), truth[task["taskId"]])


@contextmanager
def reach(cluster: Cluster, service: str, port: int) -> Iterator[str]:
    """URL of a Service from this machine: its cluster address where this machine is a node, else a port-forward.

    Raises:
        StarctlError: there is no such Service, or it cannot be reached.
    """
    body = cluster.api.get(f"/api/v1/namespaces/{cluster.namespace}/services/{service}")
    if body is None:
        raise StarctlError(f"Service {cluster.namespace}/{service} does not exist")
    direct = f"http://{body['spec']['clusterIP']}:{port}"
    if _answers(direct):
        yield direct
        return
    with cluster.kubectl.forward(cluster.namespace, service, port) as url:
        yield url


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=_CONNECT_SECONDS, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def recommend(url: str, question: Question, deadline_seconds: float, key: str | None = None) -> Answer:
    """Ask the gateway, whose deadline is given, with one of its keys.

    Raises:
        StarctlError: it does not answer, or refuses; its own words are in the message.
    """
    body = {"user_id": question.user_id, "candidates": list(question.candidates), "explain": True}
    try:
        response = httpx.post(
            f"{url}/v1/recommend",
            json=body,
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=deadline_seconds + _GRACE_SECONDS,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        raise StarctlError(f"the gateway at {url} does not answer: {error or type(error).__name__}") from error
    if not response.is_success:
        raise StarctlError(f"the gateway at {url} refused the request ({response.status_code}): {response.text[:500]}")
    return Answer.model_validate_json(response.content)


def answer_lines(question: Question, answer: Answer) -> list[str]:
    """The recommendation in words."""
    lines = [f"user {question.user_id}, {len(question.candidates)} candidates, {answer.latency_seconds:.1f} s"]
    for place in answer.ranking:
        mark = "   <- what this user chose" if place.item_id == question.chosen else ""
        lines.append(f"  {place.rank}. {place.title} ({place.item_id}){mark}")
    if not answer.valid:
        lines.append(f"  no valid ranking in the student's answer; the order is the {answer.source}'s")
    lines += [f"  {part.section}: {_short(part.thinking)} => {_short(part.output)}" for part in answer.reasoning]
    lines += [f"  {call['tool']}({call['argument']}): {_short(call['response'])}" for call in answer.tool_calls]
    if answer.format_error:
        lines.append(f"  not quite the trained format: {answer.format_error}")
    if answer.text:
        lines.append(f"  as written: {_short(answer.text)}")
    return lines


def check_digest(answer: Answer, resources: Sequence[StarResource]) -> str:
    """The sentence that the gateway serves what a GRPOJob made.

    Raises:
        StarctlError: it serves something else.
    """
    made = {one.status.artifact.digest: one for one in resources if one.kind == "GRPOJob" and one.status.artifact}
    job = made.get(answer.checkpoint)
    if job is None:
        raise StarctlError(
            f"the gateway serves {answer.checkpoint}, which no GRPOJob made (they made {', '.join(made) or 'nothing'})"
        )
    artifact = job.status.artifact
    assert artifact is not None  # by it the job was found
    return f"served by the gateway: {answer.checkpoint}\nmade by {title(job)}: {artifact.digest}"


def example(url: str, question: Question, key_command: str = "") -> str:
    """The request as a curl command; `key_command` prints the gateway's key, which is not shown."""
    body = json.dumps({"user_id": question.user_id, "candidates": list(question.candidates)})
    key = f' -H "Authorization: Bearer $({key_command})"' if key_command else ""
    return f"curl -s {url}/v1/recommend{key} -H 'Content-Type: application/json' -d '{body}'"


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _TEXT else f"{flat[:_TEXT]}..."
