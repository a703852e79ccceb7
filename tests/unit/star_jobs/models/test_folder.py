"""Looking at model folders."""

import json
from pathlib import Path

import pytest

from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure
from star_jobs.models.folder import checkpoint_files, describe, is_whole_safetensors, parameter_count, set_dtype
from tests.support.training import write_model, write_safetensors


def test_description(tmp_path: Path) -> None:
    model = describe(write_model(tmp_path, model_type="qwen3", architectures=["Qwen3ForCausalLM"]))
    assert (model.model_type, model.architecture, model.chatml) == ("qwen3", "Qwen3ForCausalLM", True)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert not describe(tmp_path).chatml


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no \\*.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x08"), "cut short"),
    ],
)
def test_what_is_no_model(tmp_path: Path, break_it: object, said: str) -> None:
    folder = write_model(tmp_path / "m")
    break_it(folder)  # type: ignore[operator]
    with pytest.raises(TerminalFailure, match=said) as raised:
        describe(folder)
    assert raised.value.reason is Reason.INVALID_MODEL


def test_optimizer_state_is_no_part_of_a_checkpoint(tmp_path: Path) -> None:
    write_model(tmp_path)
    for name in ("optimizer.pt", "trainer_state.json", "args.json", "modeling_evil.py"):
        (tmp_path / name).touch()
    names = [path.name for path in checkpoint_files(tmp_path)]
    assert names == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


def test_dtype(tmp_path: Path) -> None:
    write_model(tmp_path, torch_dtype="bfloat16")
    set_dtype(tmp_path, "float32")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["dtype"] == "float32"
    assert "torch_dtype" not in config


def test_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(path, {"a": (3, 5), "b": (7,), "scalar": ()})
    assert is_whole_safetensors(path)
    assert parameter_count([path, path]) == 2 * (15 + 7 + 1)
    data = path.read_bytes()
    for length in (0, 4, 20, len(data) - 1):
        path.write_bytes(data[:length])
        assert not is_whole_safetensors(path)
    path.write_bytes(b"\xff" * 64)
    assert not is_whole_safetensors(path)
    assert not is_whole_safetensors(tmp_path / "none")
