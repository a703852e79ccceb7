"""Looking at model folders, as people upload them."""

import contextlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_contracts.errors import Reason
from star_contracts.result import ErrorClass
from star_jobs.errors import TerminalFailure
from star_jobs.models.chat_template import CHATML
from star_jobs.models.folder import checkpoint_files, describe, set_dtype
from star_jobs.models.weights import INDEX, BrokenWeights, is_whole_safetensors, parameter_count, read_header
from tests.support.training import write_model, write_safetensors

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def test_description(tmp_path: Path) -> None:
    model = describe(write_model(tmp_path, model_type="qwen3", architectures=["Qwen3ForCausalLM"]))
    assert (model.model_type, model.architecture, model.chatml) == ("qwen3", "Qwen3ForCausalLM", True)
    assert model.answer_prefix() == ""
    (tmp_path / "tokenizer.json").write_text("{}")
    assert not describe(tmp_path).chatml


def write_shards(folder: Path, total: object = 32) -> Path:
    """A model in two shards of 16 bytes each."""
    write_model(folder)
    (folder / "model.safetensors").unlink()
    for number, shard in enumerate(SHARDS):
        write_safetensors(folder / shard, {f"layer{number}.w": (2, 2)})
    placed = {f"layer{number}.w": shard for number, shard in enumerate(SHARDS)}
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": placed}))
    return folder


def change_index(folder: Path, **changes: object) -> None:
    index = json.loads((folder / INDEX).read_bytes())
    (folder / INDEX).write_text(json.dumps(index | changes))


@pytest.mark.parametrize("total", [32, 32.0, None, "32"])
def test_a_model_in_shards(tmp_path: Path, total: object) -> None:
    assert describe(write_shards(tmp_path, total)).model_type == "llama"


def write(file: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_bytes(data)


def remove(*files: str) -> Callable[[Path], object]:
    return lambda folder: [(folder / file).unlink() for file in files]


def cut(file: str, length: int = -3) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:length])


def link(file: str) -> Callable[[Path], object]:
    def to_nowhere(folder: Path) -> None:
        (folder / file).unlink()
        (folder / file).symlink_to(folder / "elsewhere")

    return to_nowhere


def folder_instead(file: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / file).unlink()
        (folder / file).mkdir()

    return make


def instead_of_weights(file: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / file).write_bytes(b"PK\x03\x04")

    return make


def header(text: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + data


def tensor(**changes: object) -> bytes:
    entry = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    return header(json.dumps({"w": {k: v for k, v in (entry | changes).items() if v is not None}}).encode(), bytes(16))


CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}

BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no configuration": (remove("config.json"), "has no config.json"),
    "a configuration cut short": (write("config.json", b"{"), "config.json that is not JSON.*line 1 column 2"),
    "a list as configuration": (write("config.json", b"[]"), "config.json that is not a JSON object"),
    "a deep configuration": (write("config.json", b"[" * 100_000), "config.json that is nested too deeply"),
    "a deep object": (write("config.json", b'{"a":' * 100_000), "nested too deeply"),
    "a byte order mark": (write("config.json", b"\xef\xbb\xbf{}"), "config.json that begins with a byte order mark"),
    "UTF-16": (write("config.json", json.dumps(CONFIG).encode("utf-16")), "byte order mark"),
    "Latin-1": (write("config.json", b'{"name": "caf\xe9"}'), r"config.json that is not UTF-8 \(byte 13 is 0xe9\)"),
    "an empty configuration": (write("config.json", b" \n"), "empty config.json"),
    "a pointer as configuration": (write("config.json", LFS), "Git LFS pointer in place of config.json.*git lfs pull"),
    "a folder as configuration": (folder_instead("config.json"), "config.json that cannot be read"),
    "a link to nowhere": (link("config.json"), "link to nowhere in place of config.json"),
    "no model type": (write("config.json", b'{"architectures": ["X"]}'), "without model_type"),
    "no architectures": (write("config.json", b'{"model_type": "llama"}'), "without a list of architectures"),
    "architectures as text": (
        write("config.json", json.dumps(CONFIG | {"architectures": "LlamaForCausalLM"}).encode()),
        "without a list of architectures",
    ),
    "a classifier": (
        write("config.json", json.dumps(CONFIG | {"architectures": ["LlamaForSequenceClassification"]}).encode()),
        "'LlamaForSequenceClassification'.*writes no text",
    ),
    "no tokenizer": (remove("tokenizer.json"), "has no tokenizer.json"),
    "a tokenizer that is not JSON": (write("tokenizer.json", b"\x00\x01"), "tokenizer.json that is not JSON"),
    "tokens that are none": (write("tokenizer.json", b'{"added_tokens": [1]}'), "added_tokens is no list"),
    "tokens by name": (write("tokenizer.json", b'{"added_tokens": {"a": 1}}'), "added_tokens is no list"),
    "a broken second file": (write("generation_config.json", b"{"), "generation_config.json that is not JSON"),
    "an adapter beside": (write("adapter_config.json", b"{}"), "is an adapter.*merge it into its base model"),
    "no weights": (remove("model.safetensors"), r"has no \*\.safetensors weights"),
    "weights cut short": (write("model.safetensors", b"\x08"), "model.safetensors that is cut short"),
    "a header cut short": (cut("model.safetensors", 30), "cut short in its header"),
    "data cut short": (cut("model.safetensors"), r"cut short \(\d+ of \d+ bytes\)"),
    "empty weights": (write("model.safetensors", b""), "model.safetensors that is empty"),
    "a pointer as weights": (write("model.safetensors", LFS), "Git LFS pointer.*git lfs pull"),
    "weights of another format": (write("model.safetensors", b"PK\x03\x04" + b"\xff" * 99), "is no safetensors file"),
    "weights linked to nowhere": (link("model.safetensors"), "link to nowhere in place of model.safetensors"),
    "a folder as weights": (folder_instead("model.safetensors"), "model.safetensors that cannot be read"),
    "a header that is not JSON": (write("model.safetensors", header(b"{x}")), "header that is none"),
    "a list as header": (write("model.safetensors", header(b"[]")), "header that is none"),
    "a deep header": (write("model.safetensors", header(b"[" * 100_000)), "header that is none"),
    "no tensors": (write("model.safetensors", header(b"{}")), "holds no tensors"),
    "no offsets": (write("model.safetensors", tensor(data_offsets=None)), "header that is none"),
    "offsets of text": (write("model.safetensors", tensor(data_offsets="ab")), "header that is none"),
    "negative offsets": (write("model.safetensors", tensor(data_offsets=[-16, 0])), "header that is none"),
    "offsets that leave a gap": (write("model.safetensors", tensor(data_offsets=[4, 20])), "overlap or leave gaps"),
    "a shape that does not fit": (write("model.safetensors", tensor(shape=[3, 3])), "shapes do not fit"),
    "a shape past all memory": (write("model.safetensors", tensor(shape=[10**30])), "header that is none"),
    "pickles": (instead_of_weights("pytorch_model.bin"), r"pickle \(pytorch_model.bin\).*convert it to safetensors"),
    "a GGUF file": (instead_of_weights("model.gguf"), "model.gguf.*import"),
    "shards without an index": (instead_of_weights(SHARDS[0]), "is in shards.*has no model.safetensors.index.json"),
    "weights of another name": (instead_of_weights("consolidated.safetensors"), "but consolidated.safetensors"),
    "no chat template": (write("tokenizer_config.json", b"{}"), "has no chat template"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_no_model(tmp_path: Path, fault: str) -> None:
    break_it, said = BROKEN[fault]
    folder = write_model(tmp_path / "m")
    break_it(folder)
    with pytest.raises(TerminalFailure, match=f"the model s3://star/base .*{said}") as raised:
        describe(folder, "s3://star/base")
    assert (raised.value.reason, raised.value.error_class) == (Reason.INVALID_MODEL, ErrorClass.TERMINAL)


@pytest.mark.bad_input
def test_a_quantized_model_can_be_served_and_not_trained(tmp_path: Path) -> None:
    model = describe(write_model(tmp_path, quantization_config={"quant_method": "awq", "bits": 4}), "hf://org/awq")
    with pytest.raises(TerminalFailure, match=r"hf://org/awq is quantized .'awq'.*quantized from") as raised:
        model.require_trainable()
    assert raised.value.reason is Reason.INVALID_MODEL
    assert describe(write_model(tmp_path)).require_trainable().quantization == ""


@pytest.mark.bad_input
def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    write_safetensors(tmp_path / "adapter_model.safetensors", {"lora_A": (2, 2)})
    with pytest.raises(TerminalFailure, match="is an adapter"):
        describe(tmp_path)


BROKEN_SHARDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing shard": (remove(SHARDS[1]), f"has no {SHARDS[1]}, which {INDEX} names: upload all of its shards"),
    "all missing": (remove(*SHARDS), f"has no {SHARDS[0]} and 1 more"),
    "a shard cut short": (cut(SHARDS[0]), f"{SHARDS[0]} that is cut short"),
    "a shard as pointer": (write(SHARDS[1], LFS), f"{SHARDS[1]} that is a Git LFS pointer"),
    "a shard linked to nowhere": (link(SHARDS[1]), f"link to nowhere in place of {SHARDS[1]}"),
    "too few bytes": (lambda f: change_index(f, metadata={"total_size": 64}), "32 bytes of weights.*says 64"),
    "too many bytes": (lambda f: change_index(f, metadata={"total_size": 16}), "32 bytes of weights.*says 16"),
    "a total that is none": (lambda f: change_index(f, metadata={"total_size": float("nan")}), "says nan"),
    "a total beyond all numbers": (lambda f: change_index(f, metadata={"total_size": 10**400}), "says 1000"),
    "an endless total": (lambda f: change_index(f, metadata={"total_size": float("inf")}), "says inf"),
    "a name no file has": (lambda f: change_index(f, weight_map={"w": "x" * 300 + ".safetensors"}), "which"),
    "no map": (lambda f: change_index(f, weight_map=None), "weight_map does not name files"),
    "an empty map": (lambda f: change_index(f, weight_map={}), "weight_map does not name files"),
    "a map to numbers": (lambda f: change_index(f, weight_map={"w": 1}), "weight_map does not name files"),
    "a way out": (lambda f: change_index(f, weight_map={"w": "../../x.safetensors"}), "weight_map does not name"),
    "a tensor that is elsewhere": (
        lambda f: change_index(f, weight_map={"layer0.w": SHARDS[1]}),
        f"no tensor 'layer0.w' in {SHARDS[1]}",
    ),
    "an index that is not JSON": (write(INDEX, b"{"), f"{INDEX} that is not JSON"),
    "an index linked to nowhere": (link(INDEX), f"link to nowhere in place of {INDEX}"),
    "two sets": (write("model.safetensors", tensor()), "model.safetensors beside an"),
}


@pytest.mark.bad_input
@pytest.mark.case("missing-shard")
@pytest.mark.parametrize("fault", BROKEN_SHARDS)
def test_shards_that_are_not_all_there(tmp_path: Path, fault: str) -> None:
    break_it, said = BROKEN_SHARDS[fault]
    folder = write_shards(tmp_path / "m")
    break_it(folder)
    with pytest.raises(TerminalFailure, match=said) as raised:
        describe(folder)
    assert raised.value.reason is Reason.INVALID_MODEL


FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
    *SHARDS,
    INDEX,
    "added_tokens.json",
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = ["model_type", "architectures", "added_tokens", "chat_template", "bos_token", "weight_map", "metadata"]
OBJECTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3)
DATA = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", LFS, b"[" * 9999, b"\xff\xfe{\x00}\x00"]),
    (VALUES | OBJECTS).map(lambda value: json.dumps(value).encode()),
    (VALUES | OBJECTS).map(lambda value: header(json.dumps(value).encode(), bytes(8))),
)


@pytest.mark.fuzz
@settings(max_examples=40)
@given(changed=st.dictionaries(st.sampled_from(FILES), DATA, min_size=1, max_size=2), sharded=st.booleans())
def test_any_folder_is_a_model_or_an_invalid_one(
    tmp_path_factory: pytest.TempPathFactory, changed: dict[str, bytes], sharded: bool
) -> None:
    folder = tmp_path_factory.mktemp("m")
    write_shards(folder) if sharded else write_model(folder)
    for file, data in changed.items():
        (folder / file).write_bytes(data)
    with contextlib.suppress(TerminalFailure):
        describe(folder)


ENTRIES = st.fixed_dictionaries(
    {}, optional={"dtype": VALUES, "shape": VALUES, "data_offsets": VALUES | st.lists(st.integers(-9, 99), max_size=3)}
)


@pytest.mark.fuzz
@given(
    st.binary(max_size=60)
    | st.dictionaries(st.text(max_size=4), VALUES | ENTRIES, max_size=4).map(lambda v: header(json.dumps(v).encode()))
)
def test_any_bytes_are_whole_weights_or_broken_ones(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.mktemp("w") / "w.safetensors"
    file.write_bytes(data)
    with contextlib.suppress(BrokenWeights):
        assert read_header(file) is not None


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


def test_a_template_in_a_file_of_its_own_is_part_of_the_checkpoint(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(CHATML)
    assert tmp_path / "chat_template.jinja" in checkpoint_files(tmp_path)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "text",
    [
        b'{"__metadata__": {"format": 1}}',
        b'{"__metadata__": [1]}',
        json.dumps({"__metadata__": {"format": "pt"}}).encode("utf-16"),
        b'{"w": {"dtype": "F8_E4M3", "shape": [1099511627776, 1099511627776], "data_offsets": [0, 0]}}',
        b'{"w": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0], "x": NaN}}',
    ],
)
def test_a_header_that_the_library_refuses_is_broken(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(header(text))
    with pytest.raises(BrokenWeights):
        read_header(file)
