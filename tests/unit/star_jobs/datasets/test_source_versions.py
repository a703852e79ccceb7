"""Raw files have versions: equal ones are reused without being read, changed ones are prepared anew."""

from collections.abc import Callable

import pytest

from star_contracts.artifact import Manifest
from star_contracts.job import PrepareDataset
from star_contracts.result import ExitCode
from star_contracts.settings import DatasetFormat, LeakageRules, TaskSettings, TaskType
from star_jobs.storage import ObjectStore
from star_jobs.storage.inventory import take_inventory
from tests.support.jobs import Finished, JobRunner

ITEMS = 40


def table(users: int) -> bytes:
    """`u.data` of users who each rated 12 of the items, one an hour."""
    rows = [
        (user, (user * 7 + step * 3) % ITEMS + 1, 880000000 + 3600 * step)
        for user in range(users)
        for step in range(12)
    ]
    return "".join(f"{user + 1}\t{item}\t{item % 5 + 1}\t{when}\n" for user, item, when in rows).encode()


def upload(store: ObjectStore, source: str, users: int) -> None:
    store.put_bytes(f"{source}/u.data", table(users))
    items = "".join(f"{n}|Title {n} (1990)|01-Jan-1990||http://x/{n}{'|0' * 19}\n" for n in range(1, ITEMS + 1))
    store.put_bytes(f"{source}/u.item", items.encode())


@pytest.fixture
def source(store: ObjectStore, uri: str) -> str:
    upload(store, f"{uri}/source", 30)
    return f"{uri}/source"


def prepare(jobs: JobRunner, source: str, name: str, **changes: object) -> Finished:
    """Run the preparation as a resource of that name would."""
    stage = PrepareDataset.model_validate(
        {
            "format": DatasetFormat.MOVIELENS,
            "source": source,
            "tasks": TaskSettings(types=(TaskType.CLASSIC,), candidates=5, train=5, test=5),
            "leakage": LeakageRules(),
            **changes,
        }
    )
    return jobs.run(stage, output=name, memo=True)


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read of the store as files."""
    read: list[str] = []
    download = ObjectStore.download

    def counted(self: ObjectStore, uri: str, path: object) -> None:
        read.append(uri)
        download(self, uri, path)  # type: ignore[arg-type]

    monkeypatch.setattr(ObjectStore, "download", counted)
    return read


@pytest.mark.case("changed-source")
def test_raw_files_that_changed_are_prepared_anew(jobs: JobRunner, store: ObjectStore, source: str) -> None:
    first = prepare(jobs, source, "first")
    upload(store, source, 15)
    second = prepare(jobs, source, "second")
    assert not second.result.reused
    assert second.artifact.digest != first.artifact.digest
    assert (first.result.metrics["users"], second.result.metrics["users"]) == (30, 15)
    assert first.result.source != second.result.source
    assert Manifest.model_validate_json(store.get_bytes(f"{second.artifact.uri}/manifest.json")).inputs == {
        "source": second.result.source.digest if second.result.source else None
    }


@pytest.mark.case("changed-source")
def test_the_same_name_again_with_other_files_is_other_work(jobs: JobRunner, store: ObjectStore, source: str) -> None:
    first = prepare(jobs, source, "same")
    upload(store, source, 15)
    second = prepare(jobs, source, "same")
    assert second.code == ExitCode.DONE
    assert second.artifact != first.artifact


@pytest.mark.case("changed-source")
def test_equal_files_are_reused_without_being_read(
    jobs: JobRunner, store: ObjectStore, source: str, downloads: list[str]
) -> None:
    first = prepare(jobs, source, "first")
    downloads.clear()
    upload(store, source, 30)  # written again, with the same content
    store.put_bytes(f"{source}/README", b"no file of this format")
    second = prepare(jobs, source, "second")
    assert second.result.reused
    assert second.artifact == first.artifact
    assert second.result.source is not None
    assert (second.result.source.objects, second.result.source.bytes) == (
        2,
        first.result.source and first.result.source.bytes,
    )
    assert downloads == []


@pytest.mark.case("changed-source")
@pytest.mark.parametrize("change", ["another", "one more", "one less"])
def test_what_changes_while_it_is_read_is_refused_and_tried_again(
    change: str, jobs: JobRunner, store: ObjectStore, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put_bytes(f"{source}/u.user", b"1|24|M|technician|85711\n")
    writes: dict[str, Callable[[], None]] = {
        "another": lambda: store.put_bytes(f"{source}/u.data", table(20)),
        "one more": lambda: store.put_bytes(f"{source}/ml.inter", b""),
        "one less": lambda: store.delete(f"{source}/u.user"),
    }
    download = ObjectStore.download

    def meanwhile(self: ObjectStore, uri: str, path: object) -> None:
        download(self, uri, path)  # type: ignore[arg-type]
        if uri.endswith("u.item"):
            writes[change]()

    monkeypatch.setattr(ObjectStore, "download", meanwhile)
    ended = prepare(jobs, source, "first")
    assert (ended.code, ended.error.reason) == (ExitCode.RETRYABLE, "SourceChanged")
    assert "changed while it was read" in ended.error.message
    monkeypatch.undo()


@pytest.mark.bad_input
def test_a_pinned_source_refuses_other_files(jobs: JobRunner, store: ObjectStore, source: str) -> None:
    found = take_inventory(store, source, lambda _: True)
    first = prepare(jobs, source, "first", sourceDigest=found.digest)
    assert first.result.source == found
    upload(store, source, 15)
    ended = prepare(jobs, source, "second", sourceDigest=found.digest)
    assert (ended.code, ended.error.reason) == (ExitCode.TERMINAL, "SourceChanged")
    assert found.digest in ended.error.message


def test_an_inventory_tells_how_much_there_is_and_of_when(store: ObjectStore, uri: str) -> None:
    for name in ("b/c", "a", "left-out"):
        store.put_bytes(f"{uri}/{name}", name.encode())
    found = take_inventory(store, uri, lambda path: path != "left-out")
    assert (found.objects, found.bytes) == (2, 4)
    assert found.newest is not None
    assert found.newest.endswith("+00:00")
    store.put_bytes(f"{uri}/a", b"A")
    assert take_inventory(store, uri, lambda path: path != "left-out").digest != found.digest, (
        "equal sizes, other bytes"
    )
    nothing = take_inventory(store, f"{uri}/none", lambda _: True)
    assert (nothing.objects, nothing.newest) == (0, None)
