"""What engines' logs may say of a step: finite figures, or a training that has diverged."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_contracts.errors import Reason
from star_contracts.progress import ProgressReport
from star_contracts.result import ErrorClass, JobResult
from star_jobs.grpo.verl import layout as verl
from star_jobs.training import swift
from star_jobs.training.figures import Diverged, number
from star_jobs.training.logs import JsonLinesFollower

LINE = '{"loss": %s, "grad_norm": "0.8", "learning_rate": 1e-05, "epoch": 3, "global_step/max_steps": "3/3"}'
NOT_FINITE = ["NaN", "Infinity", "-Infinity", "1e999", '"nan"', '"inf"', '"-Infinity"', '"NaN"', "1" + "0" * 400]


def read(folder: Path, text: str) -> dict[str, Any]:
    (folder / "log.jsonl").write_text(text + "\n")
    (line,) = JsonLinesFollower(folder / "log.jsonl").read()
    return line


@pytest.mark.bad_input
@pytest.mark.case("nan-loss")
@pytest.mark.parametrize("value", NOT_FINITE)
def test_a_loss_that_is_no_number_is_a_divergence(tmp_path: Path, value: str) -> None:
    with pytest.raises(Diverged, match=r"ms-swift diverged at step 3 \(loss is ") as raised:
        swift.parse_step(read(tmp_path, LINE % value))
    assert (raised.value.reason, raised.value.error_class) == (Reason.TRAINING_DIVERGED, ErrorClass.TERMINAL)
    assert "learningRate" in raised.value.message


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["grad_norm", "kl", "reward", "train_loss"])
def test_a_loss_of_0_beside_a_gradient_that_is_no_number(name: str) -> None:
    line = {"loss": 0.0, name: "nan", "global_step/max_steps": "7/9"}
    with pytest.raises(Diverged, match=rf"step 7 \({name} is nan"):
        swift.parse_step(line)


@pytest.mark.bad_input
@pytest.mark.case("nan-loss")
@pytest.mark.parametrize("name", ["actor/pg_loss", "actor/grad_norm", "actor/kl_loss", "critic/rewards/mean"])
@pytest.mark.parametrize("value", [math.nan, math.inf, "nan", 10**400])
def test_the_same_of_verl(name: str, value: object) -> None:
    data = {"actor/pg_loss": 0.0, "actor/grad_norm": 1.0, name: value}
    with pytest.raises(Diverged, match="verl diverged at step 4"):
        verl.parse_step({"step": 4, "data": data})


def test_a_figure_beside_the_matter_is_left_out() -> None:
    step = swift.parse_step({"loss": 1.5, "reward_std": "nan", "flag": True, "global_step/max_steps": "1/2"})
    assert step is not None
    assert dict(step.values) == {"loss": 1.5}
    other = verl.parse_step({"step": 1, "data": {"actor/pg_loss": 1, "training/rollout_probs_diff_mean": math.nan}})
    assert other is not None
    assert dict(other.values) == {"loss": 1.0}


@pytest.mark.parametrize("text", ["²/3", "1/" + "9" * 5000, "-1/3", "1/3/5", "", None, [1]])
def test_what_names_no_step(text: object) -> None:
    assert swift.parse_step({"loss": 1.0, "global_step/max_steps": text}) is None


def test_deep_lines_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("[" * 100_000 + '\n{"a": 1}\n')
    assert JsonLinesFollower(tmp_path / "log.jsonl").read() == [{"a": 1}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
KNOWN = st.sampled_from(["loss", "grad_norm", "actor/pg_loss", "actor/grad_norm", "num_turns/mean"])
FIGURES = st.dictionaries(KNOWN | st.text(max_size=9), JSON | st.sampled_from(["nan", "inf", "1e5", "x"]), max_size=6)


@pytest.mark.fuzz
@given(FIGURES, JSON, st.sampled_from(["1/2", "0/0", "٣/٤", "x"]) | JSON)
def test_any_line_gives_finite_figures_or_says_that_training_diverged(
    figures: dict[str, Any], step: object, of: object
) -> None:
    for parse, line in (
        (swift.parse_step, {**figures, "global_step/max_steps": of}),
        (verl.parse_step, {"step": step, "data": figures}),
        (verl.parse_step, figures),
    ):
        try:
            found = parse(json.loads(json.dumps(line)))
        except Diverged:
            continue
        if found is not None:
            assert all(math.isfinite(value) for value in found.values.values())


@given(JSON | st.text())
def test_a_figure_is_a_number_or_none(value: object) -> None:
    assert number(value) is None or isinstance(number(value), float)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_wire_value_holds_a_figure_that_json_lacks(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        JobResult(metrics={"loss": value})
    with pytest.raises(ValueError, match="finite"):
        JobResult.model_validate_json('{"metrics": {"loss": NaN}}')
    with pytest.raises(ValueError, match="finite"):
        ProgressReport.model_validate({"done": 0, "total": 1, "unit": "steps", "metrics": {"loss": value}})
