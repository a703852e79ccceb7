"""What the demo says at its end: lineage, figures, verdict, recommendation, digest."""

import io
import json
from typing import Any

import httpx
import pytest
from rich.console import Console

from star_cli.demo import serving
from star_cli.demo.figures import figures, figures_table, remarks
from star_cli.demo.lineage import artifacts, lineage_lines
from star_cli.demo.run import gate_line
from star_cli.demo.serving import Answer, Question, answer_lines, check_digest, first_question
from star_cli.demo.store import Store
from star_cli.errors import StarctlError
from star_cli.resources import StarResource
from star_contracts.artifact import ArtifactKind, ArtifactRef
from star_operator.api.kinds import BY_KIND
from star_operator.api.stardeployment import StarDeployment
from tests.support.artifacts import put_artifact
from tests.support.s3 import S3Server

ZERO = "sha256:" + "0" * 64
RATES = {"hr1": 0.25, "hr3": 0.5, "hr5": 1.0, "hrAvg": 0.583333, "hrAvgInterval": {"low": 0.5, "high": 0.65}}
ANSWERS = {"hitRates": RATES, "valid": 0.9}


def resource(kind: str, name: str, spec: dict[str, Any], **status: Any) -> StarResource:
    body = {"apiVersion": "star.recsys.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    return BY_KIND[kind].parse({**body, "status": status})


def finished(ref: ArtifactRef, step: str, *, reused: bool = False) -> dict[str, Any]:
    artifact = ref.to_json_dict()
    steps = [{"name": step, "phase": "Succeeded", "artifact": artifact, "reused": reused}]
    return {"phase": "Succeeded", "artifact": artifact, "steps": steps}


def report(model: dict[str, Any] | None = None) -> bytes:
    suite = {"name": "all", "tasks": 40, "candidates": [5, 5], "model": model, "baselines": {"itemcf": RATES}}
    return json.dumps({"formatVersion": 1, "suites": [suite], "leakedInteractions": 0}).encode()


def evaluation(server: S3Server, name: str, gain: dict[str, float] | None = None, **llm: Any) -> StarResource:
    spec: dict[str, Any] = {"dataset": {"name": "d"}, "settings": {"tools": False}}
    if gain:
        spec["against"] = {"evaluation": "base"}
    if llm:
        spec["llm"] = {"server": {"model": llm}}
    ref = put_artifact(
        server, {"report.json": report(ANSWERS if llm else None)}, maker=("Evaluation", name, "evaluate")
    )
    return resource("Evaluation", name, spec, **finished(ref, "evaluate"), metrics=gain or {})


def teacher() -> StarResource:
    spec = {
        "dataset": {"name": "d"},
        "agents": {"tools": False},
        "llm": {"endpoint": {"url": "http://x", "model": "m"}},
    }
    metrics = {"hr1": 0.2, "hr3": 0.5, "hr5": 0.9, "hrAvg": 0.533, "trajectories": 100.0}
    return resource("TeacherRun", "mars", spec, phase="Succeeded", metrics=metrics)


def test_lineage_names_every_artifact_once_with_maker_and_origin(store: Store, s3_server: S3Server) -> None:
    base = put_artifact(s3_server, {"w": b"1234"}, kind=ArtifactKind.CHECKPOINT, maker=("Checkpoint", "base", "import"))
    inputs = {"model": base.digest, "trajectories": ZERO}
    sft = put_artifact(
        s3_server, {"w": b"5"}, kind=ArtifactKind.CHECKPOINT, maker=("SFTJob", "sft", "train"), inputs=inputs
    )
    spec = {"model": {"checkpoint": "base"}, "trajectories": {"name": "mars"}}
    resources = [
        resource("SFTJob", "sft", spec, **finished(sft, "train", reused=True)),
        resource("Checkpoint", "base", base.to_json_dict()),
        resource("Checkpoint", "sft", sft.to_json_dict()),
    ]
    lines = lineage_lines(artifacts(resources, store))
    assert [line for line in lines if line.startswith("sha256:")] == [
        f"{base.digest}  checkpoint, 4 B",
        f"{sft.digest}  checkpoint, 1 B",
    ]
    assert "    by    SFTJob/sft, step train, reused" in lines
    assert f"    from  model {base.digest[7:19]} (Checkpoint/base), trajectories 000000000000" in lines


def test_figures_put_baselines_teacher_and_models_into_one_table(store: Store, s3_server: S3Server) -> None:
    gain = {"against.hrAvgDiff": 0.5, "against.ciLow": 0.4, "against.ciHigh": 0.6}
    resources = [
        teacher(),
        evaluation(s3_server, "base", checkpoint="base"),
        evaluation(s3_server, "gate", gain, uri="s3://star/grpo", digest=ZERO),
        resource("Checkpoint", "grpo", {"uri": "s3://star/grpo", "digest": ZERO}),
    ]
    found = figures(resources, store)
    assert [line.who for line in found.lines] == ["baseline: itemcf", "teacher: mars", "model: base", "model: grpo"]
    console = Console(width=80, file=io.StringIO())
    console.print(figures_table(found))
    assert isinstance(console.file, io.StringIO)
    grpo = next(line for line in console.file.getvalue().splitlines() if line.startswith("model: grpo"))
    assert grpo.split() == ["model:", "grpo", "25.0", "50.0", "100.0", "58.3", "[50.0,", "65.0]", "90.0", "40", "test"]
    assert remarks(found)[0] == "model: grpo gains 50.0 [40.0, 60.0] over base, in pairs on the same tasks."
    assert any("5 candidates" in line for line in remarks(found))


def test_baselines_alone_are_figures_too_and_no_report_is_said(store: Store, s3_server: S3Server) -> None:
    found = figures([evaluation(s3_server, "baselines")], store)
    assert [line.who for line in found.lines] == ["baseline: itemcf"]
    with pytest.raises(StarctlError, match="no evaluation has a report"):
        figures([teacher()], store)


def test_the_gate_says_measured_against_required() -> None:
    message = "revision abc serves (hrAvg measured 0.58, required >= 0.3)"
    deployment = resource(
        "StarDeployment",
        "star",
        {"checkpoint": {"checkpoint": "grpo"}, "dataset": {"name": "d"}},
        phase="Ready",
        conditions=[{"type": "Ready", "status": "True", "reason": "Serving", "message": message}],
        revisions=[{"name": "abc", "digest": ZERO, "gate": "Passed"}],
    )
    assert isinstance(deployment, StarDeployment)
    assert gate_line(deployment) == f"StarDeployment/star: revision abc: Passed. {message}"


def answer(**changes: Any) -> Answer:
    ranking = [
        {"rank": 1, "item_id": "50", "title": "Star Wars"},
        {"rank": 2, "item_id": "7", "title": "Twelve Monkeys"},
    ]
    section = {"section": "user_profile", "thinking": "likes space", "output": '["space"]'}
    known = {
        "ranking": ranking,
        "source": "student",
        "valid": True,
        "reasoning": [section],
        "tool_calls": [{"tool": "User-CF", "argument": "u1", "response": "space operas"}],
        "revision": "0" * 12,
        "checkpoint": ZERO,
        "latency_seconds": 4.2,
        "request_id": "unknown fields are left alone",
    }
    return Answer.model_validate({**known, **changes})


def test_the_recommendation_is_shown_with_titles_reasoning_and_truth() -> None:
    text = "\n".join(answer_lines(Question("u1", ("50", "7"), "50"), answer()))
    assert "1. Star Wars (50)   <- what this user chose" in text
    assert 'user_profile: likes space => ["space"]' in text
    assert "User-CF(u1): space operas" in text
    fallback = "\n".join(answer_lines(Question("u1", ("50", "7"), "50"), answer(valid=False, source="fallback")))
    assert "the order is the fallback's" in fallback


def test_the_first_test_task_is_asked(store: Store, s3_server: S3Server) -> None:
    task = {"taskId": "t1", "userId": "u1", "candidates": ["7", "50"], "type": "classic", "seed": 1, "history": []}
    files = {"tasks/test.jsonl": json.dumps(task).encode(), "truth/test.jsonl": b'{"taskId":"t1","itemId":"50"}\n'}
    ref = put_artifact(s3_server, files, kind=ArtifactKind.DATASET)
    assert first_question(ref, store) == Question("u1", ("7", "50"), "50")


def grpo(digest: str) -> StarResource:
    spec = {"model": {"checkpoint": "sft"}, "dataset": {"name": "d"}}
    return resource("GRPOJob", "grpo", spec, phase="Succeeded", artifact={"uri": "s3://star/g", "digest": digest})


def test_the_served_digest_is_the_grpo_jobs() -> None:
    assert f"made by GRPOJob/grpo: {ZERO}" in check_digest(answer(), [grpo(ZERO)])
    with pytest.raises(StarctlError, match="which no GRPOJob made"):
        check_digest(answer(), [grpo("sha256:" + "1" * 64)])


def test_a_gateway_that_refuses_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    def post(url: str, **_: Any) -> httpx.Response:
        return httpx.Response(422, text='{"detail": "item 7 is unknown"}', request=httpx.Request("POST", url))

    monkeypatch.setattr(serving.httpx, "post", post)
    with pytest.raises(StarctlError, match="item 7 is unknown"):
        serving.recommend("http://gateway", Question("u", ("7", "8"), "7"), 60)
