"""The paper's presets: a real API server takes them, what they name exists, and their figures are the paper's."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from star_operator.api.kinds import BY_KIND
from tests.support.kubectl import Kubectl
from tests.support.paper import FILES, PAPER, SUITES, Preset, documents, preset, presets

MAKES_CHECKPOINTS = ("SFTJob", "GRPOJob")
TABLE_3 = {
    "": (8646, 7958, 4673),
    "-without-tools": (25337, 27958, 9944),
    "-without-planner": (8646, 7958, 4346),
    "-without-reflector": (8646, 7958, 4673),
}
"""Trajectories by suite, Amazon, Goodreads, Yelp."""


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> str:
    kubectl.run("create", "namespace", "paper")
    return "paper"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PAPER)))
def test_a_file_is_applied_and_means_the_same_with_defaults(kubectl: Kubectl, namespace: str, path: Path) -> None:
    arguments = ("apply", "--server-side", "--validate=strict", "-n", namespace, "-o", "json", "-f", str(path))
    printed = kubectl.run(*arguments)
    stored = {(body["kind"], body["metadata"]["name"]): body for body in objects(printed)}
    for manifest in documents(path):
        kind = BY_KIND[manifest["kind"]]
        body = stored[manifest["kind"], manifest["metadata"]["name"]]
        assert kind.parse(body).spec == kind.parse(manifest).spec


def objects(printed: str) -> Iterator[dict[str, Any]]:
    """The JSON objects that kubectl printed, one after the other."""
    decoder, rest = json.JSONDecoder(), printed.strip()
    while rest:
        found, end = decoder.raw_decode(rest)
        rest = rest[end:].strip()
        yield from found.get("items", [found])


def test_names_are_used_once() -> None:
    assert [key for key, count in Counter((p.kind, p.name) for p in presets()).items() if count > 1] == []
    makers = Counter(p.name for p in presets() if p.kind in MAKES_CHECKPOINTS)
    assert [name for name, count in makers.items() if count > 1] == [], "a Checkpoint takes its maker's name"


@pytest.mark.parametrize("each", presets(), ids=lambda each: f"{each.kind}-{each.name}")
def test_what_a_preset_names_is_a_preset_too(each: Preset) -> None:
    spec = each.spec
    for field, kind in (("dataset", "RecDataset"), ("verbalization", "Verbalization"), ("trajectories", "TeacherRun")):
        if field in spec:
            preset(kind, spec[field]["name"])
    for other in compared(spec):
        assert other.spec["dataset"] == spec["dataset"]
    for checkpoint in checkpoints(spec):
        assert maker(checkpoint) is not None, f"no job makes Checkpoint {checkpoint}"


@pytest.mark.parametrize("each", presets(), ids=lambda each: f"{each.kind}-{each.name}")
def test_a_preset_fits_what_it_names(each: Preset) -> None:
    """The same suite throughout, and the same variant from the trajectories to the measurement."""
    spec, suite = each.spec, each.name.partition("-")[0]
    assert suite in (*SUITES, "all")
    named = [spec[field]["name"] for field in ("dataset", "verbalization", "trajectories") if field in spec]
    assert {name.partition("-")[0] for name in (*named, *checkpoints(spec))} <= {suite}
    if each.kind in ("TeacherRun", "GRPOJob", "StarDeployment") or (checkpoints(spec) and each.kind == "Evaluation"):
        assert spec["verbalization"] == {"name": suite}, "teacher and student read the same summaries"
    if each.kind == "SFTJob":
        teacher = preset("TeacherRun", spec["trajectories"]["name"]).spec
        assert teacher.get("split", "Train") == "Train", "test tasks are not trained on"
        left_out = {"WithoutTools": "tools", "WithoutPlanner": "planner", "WithoutReflector": "reflector"}
        missing = {part for part, there in teacher["agents"].items() if not there}
        assert missing <= {left_out.get(spec["variant"])}, "the teacher has every phase of the variant"
    if each.kind == "GRPOJob":
        assert maker(spec["model"]["checkpoint"]).spec["variant"] == spec["variant"]  # type: ignore[union-attr]
    if each.kind == "Evaluation" and "singleAgent" not in spec["settings"]:
        [checkpoint] = checkpoints(spec)
        trained = maker(checkpoint)
        assert trained is not None
        assert spec["settings"].get("variant", "Full") == trained.spec["variant"]


def unnumbered(path: Path) -> str:
    """A file's name without the number of its table or figure."""
    return re.sub(r"(figure|table)-\d", r"\1-N", path.name)


@pytest.mark.parametrize("name", sorted(unnumbered(path) for path in FILES if path.parent.name == "yelp"))
def test_the_suites_differ_in_names_and_counts_alone(name: str) -> None:
    texts = []
    for suite in SUITES:
        [path] = [p for p in (PAPER / suite).iterdir() if unnumbered(p) == name]
        text = json.dumps(documents(path)).replace(suite, "SUITE")
        texts.append(re.sub(r'"(samples|instances|value)": [0-9.]+', r'"\1": N', text))
    assert texts[0] == texts[1] == texts[2]


def test_table_3() -> None:
    for suffix, counts in TABLE_3.items():
        for suite, count in zip(SUITES, counts, strict=True):
            assert preset("SFTJob", f"{suite}{suffix}-sft").spec["samples"] == count
    assert [preset("SFTJob", f"{suite}-planner").spec["samples"] for suite in SUITES] == [8646, 7958, 4673]
    assert [preset("GRPOJob", f"{suite}-star").spec["sampling"]["instances"] for suite in SUITES] == [500, 470, 486]
    assert preset("SFTJob", "amazon-sft-8846").spec["samples"] == 8846, "the text's reading"
    assert preset("SFTJob", "all-sft").spec["samples"] == sum(TABLE_3[""])
    assert preset("GRPOJob", "all-star").spec["sampling"]["instances"] == 500 + 470 + 486


def test_table_4_and_the_body() -> None:
    for suite in SUITES:
        table, body = (preset("SFTJob", f"{suite}-sft{reading}").spec for reading in ("", "-body"))
        common = {"microBatchSize": 2, "warmupRatio": 0.05, "maxLength": 16384, "precision": "bfloat16"}
        common |= {"sharding": "ZeRO2"}
        assert table["hyperparameters"] == common | {"epochs": 2, "globalBatchSize": 64, "learningRate": 1e-5}
        assert body["hyperparameters"] == common | {"epochs": 3, "globalBatchSize": 16, "learningRate": 2e-5}
        assert table["model"] == body["model"] == {"uri": "hf://Qwen/Qwen3-8B"}
        assert table["compute"]["gpusPerNode"] * table["compute"].get("nodes", 1) == 8


def test_table_5() -> None:
    paper = {"learningRate": 1e-6, "klCoefficient": 0.001, "temperature": 0.7, "groupSize": 8}
    paper |= {"maxPromptLength": 6000, "maxResponseLength": 8192, "miniBatchSize": 4, "tensorParallelSize": 2}
    for each in presets():
        if each.kind == "GRPOJob":
            assert paper.items() <= each.spec["hyperparameters"].items()
            assert each.spec["sampling"]["mix"] == {"easy": 3, "medium": 4, "hard": 3}
            assert each.spec["sampling"]["samples"] == 8
            assert each.spec["compute"]["nodes"] * each.spec["compute"]["gpusPerNode"] == 16
            assert each.spec["backend"] == "verl"


def test_the_teacher_is_tensor_parallel_over_16_gpus() -> None:
    for each in presets():
        if each.kind in ("TeacherRun", "Verbalization"):
            server = each.spec["llm"]["server"]
            assert server["tensorParallelSize"] == server["compute"]["nodes"] * server["compute"]["gpusPerNode"] == 16
            assert (each.spec["sampling"]["temperature"], each.spec["sampling"]["topP"]) == (0.7, 0.95)


def test_every_size_and_every_k() -> None:
    for suite in SUITES:
        for size in ("1.7B", "4B", "14B", "32B"):
            job = preset("SFTJob", f"{suite}-{size.lower().replace('.', '-')}-sft")
            assert job.spec["model"] == {"uri": f"hf://Qwen/Qwen3-{size}"}
        others = [other.name for other in compared(preset("Evaluation", f"{suite}-32b-star").spec)]
        assert others == [f"{suite}-{size}" for size in ("1-7b-star", "4b-star", "star", "14b-star")], "in one picture"
        for student in ("star", "sft", "without-tools-star", "without-planner-star", "without-reflector-star"):
            assert preset("Evaluation", f"{suite}-{student}-best-of-k").spec["settings"]["bestOf"] == 16


def test_star_is_held_against_its_teacher_on_the_same_tasks() -> None:
    """Table 1, and Figure 4 on fewer tasks: a TeacherRun's `tasks` are an Evaluation's `samples` of each type."""
    students = [each for each in presets() if "teacherRun" in each.spec.get("against", {})]
    teachers = {student.name: [other.name for other in compared(student.spec)] for student in students}
    table_1 = {f"{suite}-star": [f"{suite}-mars"] for suite in (*SUITES, "all")}
    figure_4 = {"goodreads-star-latency": ["goodreads-mars-latency", "goodreads-mars-planner-latency"]}
    assert teachers == table_1 | figure_4
    for student in students:
        settings = student.spec["settings"]
        types = preset("RecDataset", student.spec["dataset"]["name"]).spec["tasks"]["types"]
        assert not {"types", "seed"} & settings.keys(), "all types, drawn with the default seed"
        for teacher in compared(student.spec):
            assert (teacher.spec["split"], teacher.spec["filter"]) == ("Test", "None")
            assert teacher.spec.get("tasks") == (settings["samples"] * len(types) if "samples" in settings else None)


def compared(spec: dict[str, Any]) -> list[Preset]:
    """All that a spec's model is compared with."""
    refs = [spec["against"]] if "against" in spec else []
    named = [next(iter(ref.items())) for ref in [*refs, *spec.get("beside", [])]]
    return [preset({"evaluation": "Evaluation", "teacherRun": "TeacherRun"}[field], name) for field, name in named]


def checkpoints(spec: dict[str, Any]) -> list[str]:
    """Every Checkpoint that a spec names."""
    llms = [spec.get("llm", {}), *spec.get("agentLlms", {}).values()]
    models = [llm.get("server", {}).get("model", {}) for llm in llms]
    models += [spec.get("model", {}), spec.get("checkpoint", {})]
    return [model["checkpoint"] for model in models if "checkpoint" in model]


def maker(checkpoint: str) -> Preset | None:
    """The job that makes a Checkpoint."""
    return next((p for p in presets() if p.kind in MAKES_CHECKPOINTS and p.name == checkpoint), None)
