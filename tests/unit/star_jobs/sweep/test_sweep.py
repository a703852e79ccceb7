"""What a sweep does with each mark, step by step, in a store in memory; at the end against a real one."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from star_contracts.artifact import ArtifactKind, ArtifactRef, Producer, memo_uri
from star_contracts.base import value_hash
from star_contracts.errors import Reason
from star_contracts.job import Store
from star_contracts.result import JobResult
from star_contracts.retention import Letting, Mark, MarkState, SweepSpec, mark_uri, namespace_root
from star_jobs.errors import RetryableFailure, TerminalFailure
from star_jobs.storage import ArtifactWriter, ObjectStore, fetch
from star_jobs.storage.marks import take_up
from star_jobs.sweep.run import require_conditions, run_sweep
from tests.support.memorystore import MemoryStore, Objects

ROOT = "s3://star/team"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WORK = value_hash("work")
GRACE = 100


def written(store: ObjectStore, name: str = "a", root: str = ROOT, **inputs: str) -> Letting:
    """An artifact of two files, and its memo."""
    writer = ArtifactWriter(store, f"{root}/sftjob/{name}/1/train-12345678")
    for rel in ("model", "folder/tokenizer"):
        writer.add_bytes(name.encode(), rel)
    work = value_hash({"work": WORK, "source": inputs["source"]}) if inputs else WORK
    producer = Producer(kind="SFTJob", namespace="team", name=name, uid=f"uid-{name}", step="train", work_hash=work)
    digest = writer.commit(ArtifactKind.CHECKPOINT, producer, inputs, {}).digest()
    memo = f"{root}/sftjob/memo/train-{name}.json"
    store.put_bytes(memo, ArtifactRef(uri=writer.uri, digest=digest).model_dump_json(by_alias=True).encode())
    return Letting(uri=writer.uri, digest=digest, memos=(memo,), grace_seconds=GRACE)


def swept(store: ObjectStore, number: int, at: float = 0, **fields: Any) -> JobResult:
    """Sweep, so many seconds after the beginning."""
    spec = SweepSpec(store=Store(), root=ROOT, sweep=f"s{number}", now=NOW + timedelta(seconds=at), **fields)
    return run_sweep(spec, store, threading.Event())


def state(store: ObjectStore, letting: Letting) -> MarkState | None:
    place = mark_uri(letting.uri)
    assert place is not None
    found = store.find_bytes(place)
    return None if found is None else Mark.model_validate_json(found).state


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore(Objects())


def test_marked_first_and_deleted_by_a_later_sweep_after_the_grace_period(memory: MemoryStore) -> None:
    gone, stays = written(memory, "a"), written(memory, "b")
    before = set(memory.objects)
    assert swept(memory, 1, let_go=(gone,)).metrics == {
        "marked": 1,
        "swept": 0,
        "waiting": 1,
        "held": 0,
        "nextSeconds": 100,
    }
    assert before <= set(memory.objects)
    assert swept(memory, 2, at=99).metrics["nextSeconds"] == 1
    assert swept(memory, 3, at=100).metrics["swept"] == 1
    left = {uri for uri in before if "/a/" not in uri and not uri.endswith("train-a.json")}
    assert set(memory.objects) == left
    assert stays.uri in str(left)


def test_a_checkpoints_proofs_are_kept_with_it_and_go_with_it(memory: MemoryStore) -> None:
    gone, stays = written(memory, "a"), written(memory, "b")
    for letting in (gone, stays):
        for name in ("1111/card.md", "1111/manifest.json", "2222/manifest.json"):
            memory.put_bytes(f"{letting.uri}.proofs/{name}", b"{}")
    swept(memory, 1, let_go=(gone,))
    assert len(memory.objects.under(f"{gone.uri}.proofs")) == 3
    swept(memory, 2, at=100)
    assert not memory.objects.under(f"{gone.uri}.proofs")
    assert len(memory.objects.under(f"{stays.uri}.proofs")) == 3


def test_a_sweep_condemns_no_mark_of_its_own(memory: MemoryStore) -> None:
    letting = written(memory).model_copy(update={"grace_seconds": 0})
    assert swept(memory, 1, let_go=(letting,)).metrics["swept"] == 0
    assert swept(memory, 1, let_go=(letting,)).metrics["swept"] == 0, "the same one again, after a crash"
    assert swept(memory, 2).metrics["swept"] == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"kept": {WORK}},
        {"used": {f"{ROOT}/sftjob/a/1/train-12345678"}},
        {"used": {f"{ROOT}/sftjob/a/1/train"}},
        {"kept": "its digest"},
        {"let_go": "itself"},
    ],
    ids=str,
)
def test_what_is_in_use_is_not_condemned_and_its_time_begins_anew(memory: MemoryStore, fields: dict[str, Any]) -> None:
    letting = written(memory)
    replaced = {"its digest": {letting.digest}, "itself": (letting,)}
    known = {name: replaced.get(value, value) if isinstance(value, str) else value for name, value in fields.items()}
    swept(memory, 1, let_go=(letting,))
    assert swept(memory, 2, at=1000, **known).metrics["swept"] == 0
    assert state(memory, letting) is MarkState.MARKED
    due = swept(memory, 3, at=1000).metrics
    assert due["swept"] == (1 if "let_go" in fields else 0)
    assert due["swept"] or due["nextSeconds"] == 100


def test_equal_work_on_one_version_of_raw_files_is_known_by_the_work_without_it(memory: MemoryStore) -> None:
    letting = written(memory, "a", source=value_hash("raw files"))
    swept(memory, 1, let_go=(letting,))
    assert swept(memory, 2, at=1000, kept={WORK}).metrics == {
        "marked": 0,
        "swept": 0,
        "waiting": 1,
        "held": 1,
        "nextSeconds": 100,
    }


def test_what_a_kept_resource_has_is_not_marked_any_more(memory: MemoryStore) -> None:
    letting = written(memory)
    swept(memory, 1, let_go=(letting,))
    swept(memory, 2, at=1000, kept={letting.digest}, recorded={letting.digest})
    assert state(memory, letting) is None


def test_a_reader_spares_what_is_marked(memory: MemoryStore, tmp_path: Path) -> None:
    letting = written(memory)
    swept(memory, 1, let_go=(letting,))
    assert letting.digest is not None
    fetch(memory, ArtifactRef(uri=letting.uri, digest=letting.digest), tmp_path / "a")
    assert state(memory, letting) is MarkState.SPARED
    assert swept(memory, 2, at=1000).metrics["swept"] == 0
    assert swept(memory, 3, at=1099).metrics["swept"] == 0
    assert swept(memory, 4, at=1100).metrics["swept"] == 1


def test_what_is_condemned_is_not_there_however_much_of_it_is_left(memory: MemoryStore, tmp_path: Path) -> None:
    letting = written(memory)
    swept(memory, 1, let_go=(letting,))
    turns = iter(range(10))

    def crash_after_it_is_condemned() -> None:
        if state(MemoryStore(memory.objects), letting) is MarkState.CONDEMNED and next(turns) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        swept(MemoryStore(memory.objects, crash_after_it_is_condemned), 2, at=1000)
    assert f"{letting.uri}/manifest.json" not in memory.objects
    assert f"{letting.uri}/model" in memory.objects
    assert not take_up(memory, letting.uri)
    assert letting.digest is not None
    with pytest.raises(RetryableFailure, match="being deleted just now") as failure:
        fetch(memory, ArtifactRef(uri=letting.uri, digest=letting.digest), tmp_path / "a")
    assert failure.value.reason is Reason.BEING_DELETED
    assert swept(memory, 3, at=1000, kept={letting.digest}).metrics["swept"] == 1
    assert not memory.objects


def test_a_memo_of_other_work_by_now_stays(memory: MemoryStore) -> None:
    old, new = written(memory, "a"), written(memory, "b")
    ref = ArtifactRef(uri=new.uri, digest=new.digest or "")
    memory.put_bytes(old.memos[0], ref.model_dump_json(by_alias=True).encode())
    swept(memory, 1, let_go=(old,))
    swept(memory, 2, at=1000)
    assert old.memos[0] in memory.objects


def test_another_artifact_at_the_same_place_is_left_alone(memory: MemoryStore) -> None:
    letting = written(memory)
    swept(memory, 1, let_go=(letting.model_copy(update={"digest": value_hash("another")}),))
    assert swept(memory, 2, at=1000).metrics["swept"] == 0
    assert f"{letting.uri}/model" in memory.objects


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "uri", ["s3://star/team-b/sftjob/a/1/train", "s3://star/team/sftjob/a", "s3://other/team/a/b/c/d"]
)
def test_nothing_outside_the_namespace_is_touched(memory: MemoryStore, uri: str) -> None:
    memory.put_bytes(f"{uri}/manifest.json", b"{}")
    with pytest.raises(TerminalFailure, match="is not a prefix of this namespace"):
        swept(memory, 1, let_go=(Letting(uri=uri, grace_seconds=0),))
    assert f"{uri}/manifest.json" in memory.objects


@pytest.mark.bad_input
def test_a_store_that_ignores_conditions_is_refused_before_anything_is_marked(memory: MemoryStore) -> None:
    class Careless(MemoryStore):
        def put_version(self, uri: str, data: bytes, version: str | None) -> bool:
            self.put_bytes(uri, data)
            return True

    careless = Careless(memory.objects)
    letting = written(memory)
    before = dict(memory.objects)
    with pytest.raises(TerminalFailure, match="ignores conditions of writes"):
        swept(careless, 1, let_go=(letting,))
    assert memory.objects == before


def test_the_mark_of_a_prefix_lies_in_its_namespace() -> None:
    assert namespace_root("s3://star/prefix/team/sftjob/a/1/train") == "s3://star/prefix/team"
    assert namespace_root("s3://star/models/base") is None
    place = mark_uri("s3://star/team/sftjob/a/1/train")
    assert place is not None
    assert place.startswith("s3://star/team/retention/")
    assert memo_uri("s3://star", "team", "SFTJob", "train", WORK) != place


def test_against_a_real_store(store: ObjectStore, uri: str, tmp_path: Path) -> None:
    root = f"{uri}/team"
    gone, spared = written(store, "a", root), written(store, "b", root)
    spec = SweepSpec(store=Store(), root=root, sweep="s1", now=NOW, let_go=(gone, spared))
    require_conditions(store, spec)
    run_sweep(spec, store, threading.Event())
    assert spared.digest is not None
    fetch(store, ArtifactRef(uri=spared.uri, digest=spared.digest), tmp_path / "b")
    later = spec.model_copy(update={"sweep": "s2", "now": NOW + timedelta(seconds=GRACE), "let_go": ()})
    assert run_sweep(later, store, threading.Event()).metrics["swept"] == 1
    left = [item.path for item in store.list(root)]
    assert [path for path in left if "/a/" in path or path.endswith("-a.json")] == []
    assert len([path for path in left if "/b/" in path]) == 3
