"""A probe: the source's inventory, as a preparation would find it, and nothing else."""

import threading
from pathlib import Path

import pytest

from star_contracts.base import canonical_json
from star_contracts.errors import Reason
from star_contracts.job import Store
from star_contracts.probe import ProbeSpec
from star_contracts.settings import DatasetFormat
from star_jobs.datasets.formats import WANTED
from star_jobs.datasets.probe import probe, run_probe
from star_jobs.errors import TerminalFailure
from star_jobs.storage.inventory import take_inventory
from tests.support.memorystore import MemoryStore, Objects

SOURCE = "s3://star/raw/ml-100k"
SPEC = ProbeSpec(store=Store(), format=DatasetFormat.MOVIELENS, source=SOURCE)


@pytest.fixture
def store() -> MemoryStore:
    found = MemoryStore(Objects())
    for name in ("u.data", "u.item", "u.user", "README-of-ours"):
        found.put_bytes(f"{SOURCE}/{name}", name.encode())
    return found


def test_a_probe_answers_with_the_inventory_that_a_preparation_finds(store: MemoryStore) -> None:
    result = run_probe(SPEC, store)
    assert result.source == take_inventory(store, SOURCE, WANTED[DatasetFormat.MOVIELENS])
    assert result.source is not None
    assert result.source.objects == 3, "what is none of the format's files does not count"
    assert result.artifact is None


def test_another_file_is_another_version_and_nothing_is_written(store: MemoryStore) -> None:
    before = run_probe(SPEC, store).source
    assert run_probe(SPEC, store).source == before
    store.put_bytes(f"{SOURCE}/u.data", b"more of it")
    after = run_probe(SPEC, store).source
    assert before is not None
    assert after is not None
    assert after.digest != before.digest
    assert sorted(item.path for item in store.list(SOURCE)) == ["README-of-ours", "u.data", "u.item", "u.user"]


@pytest.mark.bad_input
def test_a_spec_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "probe.json"
    monkeypatch.setenv("STAR_PROBE_SPEC", str(path))
    path.write_bytes(canonical_json(SPEC.to_json_dict() | {"format": "Tape"}))
    with pytest.raises(TerminalFailure, match="set STAR_PROBE_SPEC") as failure:
        probe(threading.Event())
    assert failure.value.reason is Reason.INVALID_JOB_SPEC
