"""Models that bring programs along."""

import json
from pathlib import Path

from star_jobs.models.code import without_code
from star_jobs.models.folder import checkpoint_files, describe
from tests.support.training import write_model

AUTO_MAP = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "other/repository--evil.Model"}


def write_with_code(folder: Path) -> Path:
    """A model as some are on hubs, with a subfolder and a token that is called like the key."""
    write_model(folder, auto_map=AUTO_MAP, text_config={"auto_map": AUTO_MAP, "hidden_size": 8})
    tokens = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(tokens | {"auto_map": {"AutoTokenizer": ["evil.T", None]}})
    )
    (folder / "vocab.json").write_text(json.dumps({"auto_map": 7}))
    (folder / "args.json").write_text(json.dumps({"external_plugins": ["evil.py"]}))
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool.jinja").write_text("{{ messages }}")
    (folder / "custom_generate").mkdir()
    for path in (folder / "evil.py", folder / "custom_generate" / "generate.py"):
        path.write_text("raise SystemExit('it ran')")
    return folder


def test_a_model_without_programs_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    assert without_code(folder, tmp_path / "beside") == folder
    assert not (tmp_path / "beside").exists()


def test_no_program_reaches_an_engine(tmp_path: Path) -> None:
    folder = write_with_code(tmp_path / "model")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for _ in range(2):  # a pod that starts anew finds what it left
        found = without_code(folder, tmp_path / "beside")
        assert sorted(str(path.relative_to(found)) for path in found.rglob("*") if path.is_file()) == [
            "additional_chat_templates/tool.jinja",
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.json",
        ]
    assert all("evil" not in path.read_text(errors="replace") for path in found.rglob("*") if path.is_file())
    assert json.loads((found / "config.json").read_text())["text_config"] == {"hidden_size": 8}
    assert json.loads((found / "vocab.json").read_text()) == {"auto_map": 7}
    assert (found / "model.safetensors").is_symlink()
    assert describe(found).model_type == "llama"
    assert [path.name for path in checkpoint_files(found)] == [path.name for path in checkpoint_files(folder)]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before, "a verified copy stays"


def test_a_configuration_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "processor_config.json").write_text("{")
    assert not (without_code(folder, tmp_path / "beside") / "processor_config.json").exists()
