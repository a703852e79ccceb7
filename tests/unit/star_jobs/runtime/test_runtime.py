"""Around every stage: reuse, commit, answer, exit code."""

import errno
import json
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from star_contracts.artifact import ArtifactKind, ArtifactRef, Manifest, Producer
from star_contracts.base import value_hash
from star_contracts.errors import JobWarning, Reason
from star_contracts.job import ImportModel, JobSpec, Shard, Whole
from star_contracts.result import ErrorClass, ExitCode, JobResult
from star_jobs import __main__ as entry_point
from star_jobs import runtime
from star_jobs.errors import TerminalFailure
from star_jobs.runtime import JobContext, Outcome
from star_jobs.storage import ArtifactWriter, ObjectStore, fetch
from tests.support import world
from tests.support.s3 import S3Server
from tests.support.training import write_model


@dataclass(frozen=True)
class Pod:
    """A job pod's surroundings: the spec file, the work folder, the termination message."""

    folder: Path
    spec: JobSpec

    def run(self, stage: Callable[[ImportModel, JobContext], Outcome]) -> tuple[int, JobResult]:
        (self.folder / "job.json").write_text(self.spec.model_dump_json(by_alias=True))
        code = runtime.main(lambda name: stage)
        return code, JobResult.model_validate_json((self.folder / "termination-log").read_bytes())

    def with_spec(self, **changes: object) -> "Pod":
        return replace(self, spec=self.spec.model_copy(update=changes))


@pytest.fixture
def pod(s3_server: S3Server, store: ObjectStore, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pod:
    monkeypatch.setenv("STAR_JOB_SPEC", str(tmp_path / "job.json"))
    monkeypatch.setenv("STAR_TERMINATION_LOG", str(tmp_path / "termination-log"))
    monkeypatch.setenv("STAR_WORK_DIR", str(tmp_path / "work"))
    spec = JobSpec(
        store=s3_server.store(),
        producer=Producer(kind="K", namespace="ns", name="n", uid="u", step="s", work_hash=value_hash(1)),
        output=f"{uri}/out/1",
        work=f"{uri}/work",
        memo=f"{uri}/memo/1.json",
        inputs={"model": value_hash(1)},
        stage=ImportModel(source=f"{uri}/model.gguf"),
    )
    return Pod(tmp_path, spec)


def make(_stage: ImportModel, job: JobContext) -> Outcome:
    job.output.add_bytes(b"weights", "model.bin")
    return Outcome(ArtifactKind.CHECKPOINT, inputs={"source": value_hash(0)}, metrics={"loss": 0.25})


def never(_stage: ImportModel, _job: JobContext) -> Outcome:
    pytest.fail("ran although the work was done")


def test_a_finished_job_leaves_artifact_memo_and_message(pod: Pod, store: ObjectStore) -> None:
    code, result = pod.run(make)
    assert code == ExitCode.DONE
    assert result.artifact is not None
    assert (result.artifact.uri, result.bytes, result.metrics, result.reused) == (
        pod.spec.output,
        7,
        {"loss": 0.25},
        False,
    )
    manifest = Manifest.model_validate_json(store.get_bytes(f"{pod.spec.output}/manifest.json"))
    assert manifest.digest() == result.artifact.digest
    assert manifest.producer == pod.spec.producer
    assert manifest.inputs == {"model": value_hash(1), "source": value_hash(0)}, "the operator's and the stage's own"
    assert ArtifactRef.model_validate_json(store.get_bytes(str(pod.spec.memo))) == result.artifact


def test_a_restarted_pod_finds_its_own_artifact(pod: Pod) -> None:
    _, first = pod.run(make)
    code, second = pod.run(never)
    assert code == ExitCode.DONE
    assert second == first.model_copy(update={"reused": True})


def test_warnings_stay_with_the_artifact_and_fit_the_kubelet(pod: Pod, uri: str) -> None:
    warnings = [JobWarning(reason=f"Odd{n}", message="ü" * 400) for n in range(9)]

    def warn(stage: ImportModel, job: JobContext) -> Outcome:
        return replace(make(stage, job), warnings=warnings)

    _, first = pod.run(warn)
    assert list(first.warnings) == warnings[: len(first.warnings)]
    assert 2 <= len(first.warnings) < 9
    assert len((pod.folder / "termination-log").read_bytes()) <= 4096
    _, again = pod.with_spec(output=f"{uri}/out/2").run(never)
    assert (again.reused, again.warnings) == (True, first.warnings)


def test_a_manifest_without_warnings_is_what_it_always_was(pod: Pod, store: ObjectStore) -> None:
    _, result = pod.run(make)
    assert result.artifact is not None
    assert b"warnings" not in store.get_bytes(f"{pod.spec.output}/manifest.json")


def test_the_same_work_elsewhere_is_reused_by_memo(pod: Pod, uri: str) -> None:
    _, first = pod.run(make)
    _, second = pod.with_spec(output=f"{uri}/out/2").run(never)
    assert second.reused
    assert second.artifact == first.artifact


def test_without_a_memo_the_work_runs_again(pod: Pod, uri: str) -> None:
    pod.run(make)
    _, second = pod.with_spec(output=f"{uri}/out/2", memo=None).run(make)
    assert not second.reused


def test_a_shard_has_nothing_to_do_where_the_artifact_is_that_is_collected_from_its_parts(
    pod: Pod, uri: str, store: ObjectStore
) -> None:
    _, collected = pod.run(make)
    whole = Whole(memo=str(pod.spec.memo), work_hash=pod.spec.producer.work_hash)
    sharded = pod.with_spec(output=f"{uri}/out/2", memo=None, whole=whole, shard=Shard(count=2))
    assert sharded.run(never) == (ExitCode.DONE, JobResult(reused=True))
    other = sharded.with_spec(whole=Whole(memo=str(pod.spec.memo), work_hash=value_hash(2)))
    assert other.run(lambda stage, job: Outcome(None, metrics={"made": 1}))[1] == JobResult(metrics={"made": 1})
    assert collected.artifact is not None
    store.delete(f"{collected.artifact.uri}/manifest.json")
    assert not sharded.run(lambda stage, job: Outcome(None))[1].reused


@pytest.mark.parametrize("damage", ["deleted", "replaced", "garbled memo"])
def test_a_memo_that_leads_nowhere_is_ignored(damage: str, pod: Pod, uri: str, store: ObjectStore) -> None:
    pod.run(make)
    if damage == "deleted":
        store.delete_tree(pod.spec.output)
    elif damage == "replaced":
        store.put_bytes(f"{pod.spec.output}/manifest.json", b"{}")
    else:
        store.put_bytes(str(pod.spec.memo), b"not json")
    code, second = pod.with_spec(output=f"{uri}/out/2").run(make)
    assert code == ExitCode.DONE
    assert not second.reused
    assert second.artifact is not None
    assert ArtifactRef.model_validate_json(store.get_bytes(str(pod.spec.memo))) == second.artifact


@dataclass(frozen=True)
class Plant:
    """An artifact with a memo that leads to it, as somebody who may write to the bucket could make both."""

    says: str
    place: str = "s3://star/hostile/k/n/1/s"
    producer: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=lambda: {"model": value_hash(1)})


PLANTED = [
    Plant("of another namespace's prefix"),
    Plant("made in another namespace", "{home}/planted", {"namespace": "hostile"}),
    Plant("of another kind", "{home}/planted", {"kind": "Other"}),
    Plant("of another step", "{home}/planted", {"step": "other"}),
    Plant("of other work", "{home}/planted", {"work_hash": value_hash(2)}),
    Plant("of another model", "{home}/planted", inputs={"model": value_hash(2)}),
    Plant("of a model that it does not name", "{home}/planted", inputs={}),
]


@pytest.mark.bad_input
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.says)
@pytest.mark.parametrize("sharded", [False, True])
def test_a_planted_artifact_is_not_believed(
    plant: Plant, sharded: bool, pod: Pod, uri: str, store: ObjectStore
) -> None:
    home = f"{uri}/ns"
    memo = f"{home}/k/memo/s-1.json"
    writer = ArtifactWriter(store, plant.place.format(home=home))
    writer.add_bytes(b"backdoor", "model.bin")
    producer = pod.spec.producer.model_copy(update=plant.producer)
    manifest = writer.commit(ArtifactKind.CHECKPOINT, producer, plant.inputs, {})
    planted = ArtifactRef(uri=writer.uri, digest=manifest.digest())
    store.put_bytes(memo, planted.model_dump_json(by_alias=True).encode())
    whole = Whole(memo=memo, work_hash=pod.spec.producer.work_hash, step="s", inputs=pod.spec.inputs)
    told = {"memo": None, "whole": whole} if sharded else {"memo": memo}
    _, result = pod.with_spec(output=f"{home}/k/n/1/s", **told).run(make)
    assert not result.reused
    assert result.artifact is not None
    assert result.artifact != planted


def test_an_artifact_of_other_work_is_never_overwritten(pod: Pod) -> None:
    pod.run(make)
    other = pod.spec.producer.model_copy(update={"work_hash": value_hash(2)})
    code, result = pod.with_spec(producer=other, memo=None).run(never)
    assert code == ExitCode.TERMINAL
    assert result.error is not None
    assert result.error.reason == Reason.INVALID_JOB_SPEC
    assert pod.spec.output in result.error.message


def test_a_shard_leaves_no_artifact(pod: Pod, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "2")

    def shard(_stage: ImportModel, job: JobContext) -> Outcome:
        job.work.put("parts/2", b"".join(b"%d " % n for n in job.mine(range(10))))
        return Outcome(None, metrics={"done": 1})

    code, result = pod.with_spec(shard=Shard(count=4)).run(shard)
    assert (code, result) == (ExitCode.DONE, JobResult(metrics={"done": 1}))
    assert store.get_bytes(f"{pod.spec.work}/parts/2") == b"2 6 "
    assert store.find_bytes(str(pod.spec.memo)) is None


def test_shards_share_the_work_without_overlap(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def shard(_stage: ImportModel, job: JobContext) -> Outcome:
        seen.extend(job.mine(range(11)))
        return Outcome(None)

    for index in range(3):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        pod.with_spec(shard=Shard(count=3)).run(shard)
    assert sorted(seen) == list(range(11))


def raises(error: BaseException) -> Callable[[ImportModel, JobContext], Outcome]:
    def stage(_stage: ImportModel, _job: JobContext) -> Outcome:
        raise error

    return stage


def out_of_disk_below() -> Exception:
    error = RuntimeError("could not write the table")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    return error


@pytest.mark.parametrize(
    ("error", "code", "reason", "says"),
    [
        (
            TerminalFailure(Reason.INVALID_DATASET, "u.item line 3"),
            ExitCode.TERMINAL,
            "InvalidDataset",
            "u.item line 3",
        ),
        (OSError(errno.ENOSPC, "No space left"), ExitCode.RETRYABLE, "OutOfDisk", "compute.resources.scratch"),
        (out_of_disk_below(), ExitCode.RETRYABLE, "OutOfDisk", "compute.resources.scratch"),
        (MemoryError(), ExitCode.RETRYABLE, "OutOfMemory", "compute.resources.memoryLimit"),
        (KeyError("x"), ExitCode.RETRYABLE, "InternalError", "unexpected KeyError: 'x'"),
        (KeyboardInterrupt(), ExitCode.RETRYABLE, "Interrupted", "told to stop"),
    ],
)
def test_every_failure_is_typed(error: BaseException, code: ExitCode, reason: str, says: str, pod: Pod) -> None:
    got, result = pod.run(raises(error))
    assert got == code
    assert result.error is not None
    assert (result.error.reason, result.error.error_class) == (
        reason,
        ErrorClass.TERMINAL if code is ExitCode.TERMINAL else ErrorClass.RETRYABLE,
    )
    assert says in result.error.message


def test_a_failed_job_leaves_nothing_that_can_be_read(pod: Pod, store: ObjectStore) -> None:
    def half(_stage: ImportModel, job: JobContext) -> Outcome:
        job.output.add_bytes(b"1", "model.bin")
        raise ValueError("boom")

    pod.run(half)
    assert store.find_bytes(f"{pod.spec.output}/manifest.json") is None
    assert store.find_bytes(str(pod.spec.memo)) is None
    assert list((pod.folder / "work" / "scratch").iterdir()) == []


def test_a_long_message_fits_the_kubelet(pod: Pod) -> None:
    pod.run(raises(TerminalFailure(Reason.INVALID_DATASET, "ü" * 5000)))
    assert len((pod.folder / "termination-log").read_bytes()) <= 4096


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"output": "ftp://x"}, "output"),
        ({"surprise": 1}, "surprise"),
        ({"stage": {"stage": "train-everything"}}, "stage"),
        ({"shard": {"count": 0}}, "shard.count"),
    ],
)
def test_a_wrong_spec_names_the_field(change: dict[str, object], says: str, pod: Pod) -> None:
    text = {**json.loads(pod.spec.model_dump_json(by_alias=True)), **change}
    (pod.folder / "job.json").write_text(json.dumps(text))
    assert runtime.main(lambda name: never) == ExitCode.TERMINAL
    result = JobResult.model_validate_json((pod.folder / "termination-log").read_bytes())
    assert result.error is not None
    assert result.error.reason == Reason.INVALID_JOB_SPEC
    assert says in result.error.message


@pytest.mark.bad_input
def test_a_missing_spec_is_terminal(pod: Pod) -> None:
    assert runtime.main(lambda name: never) == ExitCode.TERMINAL


@pytest.mark.bad_input
def test_a_completion_index_that_is_no_number_is_terminal(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "one")
    code, result = pod.run(never)
    assert code == ExitCode.TERMINAL
    assert result.error is not None
    assert "JOB_COMPLETION_INDEX" in result.error.message


def fetch_answers(server: S3Server, artifact: ArtifactRef, tmp_path: Path, **more: str) -> tuple[int, JobResult]:
    """Run the init container of a server of this artifact."""
    spec = {"store": server.store().to_json_dict(), "artifact": artifact.to_json_dict(), **more}
    (tmp_path / "fetch.json").write_text(json.dumps(spec | {"destination": str(tmp_path / "models" / "student")}))
    code = runtime.answer(entry_point.fetch_artifact)
    return code, JobResult.model_validate_json((tmp_path / "fetch-termination-log").read_bytes())


@pytest.fixture
def _fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAR_FETCH_SPEC", str(tmp_path / "fetch.json"))
    monkeypatch.setenv("STAR_TERMINATION_LOG", str(tmp_path / "fetch-termination-log"))


@pytest.mark.usefixtures("_fetches")
def test_fetch_command_downloads_the_artifact(
    s3_server: S3Server, store: ObjectStore, uri: str, tmp_path: Path
) -> None:
    artifact = world.publish(store, uri, write_model(tmp_path / "in"), ArtifactKind.CHECKPOINT)
    assert fetch_answers(s3_server, artifact, tmp_path)[0] == ExitCode.DONE
    fetched = tmp_path / "models" / "student" / "model.safetensors"
    assert fetched.read_bytes() == (tmp_path / "in" / "model.safetensors").read_bytes()
    (tmp_path / "fetch.json").write_text("{}")
    assert runtime.answer(entry_point.fetch_artifact) == ExitCode.TERMINAL


@pytest.mark.bad_input
@pytest.mark.case("no-chat-template")
@pytest.mark.usefixtures("_fetches")
def test_a_server_of_a_model_without_a_chat_template_never_starts(
    s3_server: S3Server, store: ObjectStore, uri: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "in")
    (folder / "tokenizer_config.json").write_text("{}")
    artifact = world.publish(store, uri, folder, ArtifactKind.CHECKPOINT)
    code, result = fetch_answers(s3_server, artifact, tmp_path)
    assert (code, result.error and result.error.reason) == (ExitCode.TERMINAL, "InvalidModel")
    assert result.error is not None
    assert f"the model {uri} has no chat template" in result.error.message
    # A server that is given a template needs no other.
    assert fetch_answers(s3_server, artifact, tmp_path, chatTemplate="/etc/template.jinja")[0] == ExitCode.DONE


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_no_number_is_no_reason_to_try_again(pod: Pod, value: float) -> None:
    code, result = pod.run(lambda _stage, _job: Outcome(ArtifactKind.REPORT, metrics={"hrAvg": value}))
    assert code == ExitCode.TERMINAL
    assert result.error is not None
    assert "hrAvg" in result.error.message


@pytest.mark.bad_input
def test_half_an_emoji_in_a_message_reaches_the_operator(pod: Pod) -> None:
    def fail(_stage: ImportModel, _job: JobContext) -> Outcome:
        raise TerminalFailure(Reason.INVALID_MODEL, "the tensor \ud83d is not there")

    code, result = pod.run(fail)
    assert code == ExitCode.TERMINAL
    assert result.error is not None
    assert "\\ud83d" in result.error.message


def test_inputs_are_cached_by_digest(pod: Pod, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    _, made = pod.run(make)
    assert made.artifact is not None
    ref = made.artifact
    folders: list[Path] = []

    def use(_stage: ImportModel, job: JobContext) -> Outcome:
        folders.extend([job.fetch(ref), job.fetch(ref), job.fetch(ref, only=["*.none"])])
        return Outcome(None)

    pod.with_spec(output=f"{uri}/out/2", memo=None).run(use)
    assert folders[0] == folders[1] != folders[2]
    assert (folders[0] / "model.bin").read_bytes() == b"weights"
    assert [p.name for p in folders[2].iterdir()] == ["manifest.json"]
    assert fetch(ObjectStore(pod.spec.store), ref, folders[0]) == folders[0]


def test_every_stage_of_the_contract_has_a_module() -> None:
    stages = JobSpec.model_json_schema()["properties"]["stage"]["discriminator"]["mapping"]
    assert set(entry_point.STAGES) == set(stages)


def test_answer_ends_the_watch_for_signals() -> None:
    before = threading.active_count()
    runtime.answer(lambda stopping: JobResult())
    assert threading.active_count() == before


@pytest.mark.bad_input
def test_an_unknown_command_says_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["star-job", "dance"])
    assert entry_point.main() == 64
    assert "star-job fetch" in capsys.readouterr().err
