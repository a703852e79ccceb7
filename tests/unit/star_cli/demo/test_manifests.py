from pathlib import Path

import pytest

from star_cli.demo.manifests import OVERRIDES, Size, key, load, merged, resized
from star_cli.errors import StarctlError
from star_operator.api.kinds import BY_KIND

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("size", Size)
def test_every_size_fits_the_kinds(size: Size) -> None:
    for manifest in load(ROOT, size):
        BY_KIND[manifest["kind"]].parse(manifest)


@pytest.mark.parametrize("size", list(Size))
def test_every_size_is_the_same_chain(size: Size) -> None:
    assert [key(one) for one in load(ROOT, size)] == [key(one) for one in load(ROOT, Size.DEMO)]


def test_the_stages_of_the_base_model_share_one_server() -> None:
    servers = [
        manifest["spec"]["llm"]["server"]
        for manifest in load(ROOT, Size.DEMO)
        if manifest["spec"].get("llm", {}).get("server", {}).get("model") == {"checkpoint": "base"}
    ]
    assert len(servers) == 3, "verbalization, teacher and evaluation"
    assert all(server == servers[0] for server in servers), "a server start costs more than what it serves here"


def test_maps_are_merged_and_everything_else_replaced() -> None:
    assert merged({"a": {"b": 1, "c": [1, 2]}, "d": 0}, {"a": {"c": [3]}}) == {"a": {"b": 1, "c": [3]}, "d": 0}


def test_a_size_that_changes_what_is_not_there_is_refused() -> None:
    with pytest.raises(StarctlError, match="manifests/samples/demo has no SFTJob/other"):
        resized(load(ROOT, Size.DEMO), {("SFTJob", "other"): {}})


def test_a_folder_without_manifests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StarctlError, match="holds no manifests"):
        load(tmp_path, Size.DEMO)


def test_the_tiny_size_is_smaller() -> None:
    sizes = {key(one): one["spec"] for one in load(ROOT, Size.DEMO)}
    for (kind, name), change in OVERRIDES[Size.TINY].items():
        for field, value in change.items():
            if isinstance(value, int):
                assert value < sizes[kind, name][field], (kind, name, field)
