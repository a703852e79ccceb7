"""What a model and an artifact may be called: none of it is an option of a program, or a folder of a pod."""

import pytest
from pydantic import TypeAdapter, ValidationError

from star_contracts.artifact import S3Uri
from star_operator.api.common import ModelUri

MODEL, OBJECT = TypeAdapter(ModelUri), TypeAdapter(S3Uri)


@pytest.mark.parametrize(
    "uri",
    [
        "hf://Qwen/Qwen3-1.7B",
        "hf://_org/_model_@v1.0",
        "hf://a/b@0123456789abcdef0123456789abcdef01234567",
        "s3://star/team/sftjob/x/1/train-0a1b2c3d",
        "s3://star/.hidden/a..b/...c",
    ],
)
def test_models(uri: str) -> None:
    assert MODEL.validate_python(uri) == uri


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "uri",
    [
        "hf://-q/x",
        "hf://--trust-remote-code/x",
        "hf://a/--config",
        "hf://../etc",
        "hf://./x",
        "hf://a/..",
        "hf://a/b@-x",
        "hf://a/b@..",
        "hf://a/b/c",
        "hf://a/b@c/d",
        "s3://star/team/../other/x",
        "s3://star/.",
        "s3://star/a/.../b",
    ],
)
def test_what_is_no_model(uri: str) -> None:
    with pytest.raises(ValidationError):
        MODEL.validate_python(uri)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "uri", ["s3://star/../x", "s3://star/team/..", "s3://star/./x", "s3://star/a/....", "s3://star/"]
)
def test_no_part_of_an_object_is_dots_alone(uri: str) -> None:
    with pytest.raises(ValidationError):
        OBJECT.validate_python(uri)
