"""A pipeline's resources: wired to each other, shared by variants up to the first stage that differs."""

from typing import Any

import pytest

from star_operator.api.chain import StageName
from star_operator.api.kinds import BY_KIND
from star_operator.api.starpipeline import PinnedModel
from star_operator.builders.gpus import gpus_of
from star_operator.builders.starpipeline import child, deployment, merge_patch, plan
from star_operator.core.errors import InvalidSpec
from tests.support.pipelines import KINDS, SERVED, SPEC, pipeline
from tests.support.star import DIGEST


def specs(spec: dict[str, Any] | None = None, **status: Any) -> dict[str, dict[str, Any]]:
    return {row.row: row.spec or {} for row in plan(pipeline(spec, **status)).rows}


def test_the_stages_are_wired_to_each_other() -> None:
    found = specs()
    assert list(found) == list(KINDS)
    assert found["verbalization"]["dataset"] == {"name": "weekly-dataset"}
    assert "previous" not in found["verbalization"] | found["teacher"]
    assert found["teacher"]["verbalization"] == {"name": "weekly-verbalization"}
    assert found["sft"]["trajectories"] == {"name": "weekly-teacher"}
    assert found["sft"]["model"] == {"checkpoint": "base"}
    assert found["grpo"]["model"] == {"checkpoint": "weekly-sft"}
    assert found["evaluation"]["llm"]["server"]["model"] == {"checkpoint": "weekly-grpo"}
    assert "server" not in found["evaluation"]


def test_every_resource_fits_its_kind_and_belongs_to_the_pipeline() -> None:
    owner = pipeline()
    for row in plan(owner).rows:
        obj = child(owner, row, 2)
        assert BY_KIND[row.kind].parse(obj).spec.to_json_dict() == {**(row.spec or {}), "suspend": False}
        assert obj["metadata"]["ownerReferences"][0]["uid"] == owner.metadata.uid
        assert obj["metadata"]["annotations"] == {"star.recsys.dev/try": "2"}
        assert obj["metadata"]["labels"]["star.recsys.dev/series"] == "weekly"


def test_an_explicit_empty_list_stays_empty() -> None:
    spec = {**SPEC, "evaluation": {"template": {"settings": {"baselines": []}}}}
    [row] = [row for row in plan(pipeline(spec)).rows if row.stage is StageName.EVALUATION]
    assert child(pipeline(spec), row, 1)["spec"]["settings"]["baselines"] == []


def test_a_run_begins_with_the_incumbent_and_takes_over_from_the_last_run() -> None:
    incumbent = {"uri": "s3://star/models/live", "digest": DIGEST}
    found = specs(incumbent=incumbent, previous="last-verbalization", previousTeacher="last-teacher")
    assert found["sft"]["model"] == incumbent
    assert found["verbalization"]["previous"] == {"name": "last-verbalization"}
    assert found["teacher"]["previous"] == {"name": "last-teacher"}


def test_what_is_used_is_wired_in_place_of_what_would_be_made() -> None:
    spec = {
        **{name: SPEC[name] for name in ("verbalization", "evaluation")},
        "dataset": {"use": {"name": "amazon", "digest": DIGEST}},
        "grpo": {"use": {"uri": "s3://star/models/x", "digest": DIGEST}},
    }
    rows = {row.row: row for row in plan(pipeline(spec)).rows}
    assert not rows["dataset"].made
    assert rows["dataset"].digest == DIGEST
    assert rows["verbalization"].spec is not None
    assert rows["verbalization"].spec["dataset"] == {"name": "amazon"}
    assert rows["evaluation"].spec is not None
    assert rows["evaluation"].spec["llm"]["server"]["model"] == {"uri": "s3://star/models/x", "digest": DIGEST}


def test_without_a_verbalization_nothing_refers_to_one() -> None:
    spec = {name: stage for name, stage in SPEC.items() if name != "verbalization"}
    spec["teacher"] = {"template": {"llm": {"server": {"model": {"checkpoint": "base"}}}, "agents": {"tools": False}}}
    found = specs(spec)
    assert all("verbalization" not in one for one in found.values())


VARIANTS = {
    "plain": {},
    "small": {"sft": {"hyperparameters": {"learningRate": 1e-4}}},
    "blind": {"teacher": {"passes": 3}},
}


def test_variants_fan_out_from_the_first_stage_that_differs() -> None:
    found = plan(pipeline({**SPEC, "variants": VARIANTS}))
    names = {variant: [row.row for row in chain] for variant, chain in found.chains.items()}
    assert names["plain"] == list(KINDS)
    assert names["small"] == ["dataset", "verbalization", "teacher", "sft/small", "grpo/small", "evaluation/small"]
    assert names["blind"][:3] == ["dataset", "verbalization", "teacher/blind"]
    rows = {row.row: row for row in found.rows}
    assert len(rows) == len(found.rows) == 6 + 3 + 4, "what is shared is there once"
    small, blind = rows["sft/small"].spec, rows["sft/blind"].spec
    assert small is not None
    assert blind is not None
    assert small["hyperparameters"]["learningRate"] == 1e-4
    assert small["hyperparameters"]["microBatchSize"] == 2, "a patch changes what it names"
    assert blind["trajectories"] == {"name": "weekly-teacher-blind"}
    assert rows["grpo/small"].spec is not None
    assert rows["grpo/small"].spec["model"] == {"checkpoint": "weekly-sft-small"}


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("patch", "says"),
    [
        ({"sft": {"trajectories": {"name": "t"}}}, "variants.v.sft does not fit sft.template: trajectories"),
        ({"sft": {"hyperparameters": {"epochs": "many"}}}, "hyperparameters.epochs"),
        ({"teacher": {"passes": None, "filter": "Whatever"}}, "filter"),
    ],
)
def test_a_patch_that_does_not_fit_is_told_by_its_field(patch: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        plan(pipeline({**SPEC, "variants": {"v": patch}}))
    assert says in refused.value.message
    assert refused.value.message.endswith("correct the patch")


def test_names_stay_labels_whatever_the_pipeline_is_called() -> None:
    owner = pipeline(SPEC)
    long = owner.model_copy(update={"metadata": owner.metadata.model_copy(update={"name": "a" * 200})})
    other = owner.model_copy(update={"metadata": owner.metadata.model_copy(update={"name": "a" * 201})})
    names = [row.name for one in (long, other) for row in plan(one).rows]
    assert len(set(names)) == 12
    assert all(len(name) <= 63 for name in names)


def test_the_deployment_is_told_the_model_by_digest_and_what_it_was_made_with() -> None:
    model = PinnedModel(checkpoint="weekly-grpo", uri="s3://star/models/x", digest=DIGEST)
    owner = pipeline(SERVED)
    made = deployment(owner, plan(owner).chains[""], model)
    assert made["metadata"]["name"] == "live"
    assert made["spec"]["checkpoint"] == {"checkpoint": "weekly-grpo", "digest": DIGEST}
    assert made["spec"]["dataset"] == {"name": "weekly-dataset"}
    BY_KIND["StarDeployment"].parse(made)
    moving = pipeline({**SPEC, "deployment": {"use": {"name": "live"}}})
    moved = deployment(moving, plan(moving).chains[""], model)
    assert moved["spec"]["checkpoint"] == {"checkpoint": "weekly-grpo", "digest": DIGEST, "uri": None}
    assert set(moved["spec"]) == {"checkpoint", "dataset", "verbalization"}


def test_gpus_are_those_of_pods_and_servers_together() -> None:
    server = {"compute": {"pool": "h20", "gpusPerNode": 2}, "tensorParallelSize": 2, "replicas": 3}
    llm = {"server": {"model": {"checkpoint": "base"}, **server}}
    spec = {
        **SPEC,
        "verbalization": {"template": {"llm": llm, "shards": 4}},
        "sft": {
            "template": {"model": {"checkpoint": "base"}, "compute": {"pool": "h20", "nodes": 2, "gpusPerNode": 8}}
        },
        "grpo": {
            "template": {
                **SPEC["grpo"]["template"],
                "server": server,
                "compute": {"pool": "h20", "gpusPerNode": 4},
                "hyperparameters": {"tensorParallelSize": 1, "trainBatchSize": 4, "miniBatchSize": 4},
            }
        },
        "evaluation": {"template": {"server": server}},
    }
    found = {row.row: row.gpus for row in plan(pipeline(spec)).rows}
    assert found == {"dataset": 0, "verbalization": 6, "teacher": 0, "sft": 16, "grpo": 6, "evaluation": 6}
    teacher = BY_KIND["TeacherRun"].spec_type()
    two = {"dataset": {"name": "d"}, "llm": llm, "agentLlms": {"planner": llm}, "agents": {"tools": False}}
    assert gpus_of(teacher.model_validate(two)) == 6, "equal servers are shared"


@pytest.mark.parametrize(
    ("target", "patch", "wanted"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches(target: Any, patch: Any, wanted: Any) -> None:
    assert merge_patch(target, patch) == wanted
