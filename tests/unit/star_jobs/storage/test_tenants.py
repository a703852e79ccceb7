"""Two tenants of one bucket, kept apart by the policy that `starctl store-policy` prints: tried on a real S3 server."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from star_contracts.artifact import ArtifactKind, ArtifactRef, Producer, memo_uri
from star_contracts.base import value_hash
from star_contracts.errors import Reason
from star_contracts.job import Store
from star_contracts.retention import Letting, SweepSpec
from star_contracts.storepolicy import StoreRole, Tenant, policy_document
from star_jobs.errors import TerminalFailure
from star_jobs.storage import ArtifactWriter, ObjectStore, fetch
from star_jobs.sweep.run import run_sweep
from tests.support.s3 import BUCKET, S3Server, start_s3

ROOT = f"s3://{BUCKET}/star"
A, B = f"{ROOT}/team-a", f"{ROOT}/team-b"
RAW = f"s3://{BUCKET}/raw/team-a"
SECRET = b"what team-b has learned"


@dataclass(frozen=True)
class Accounts:
    """The stores as the tenants' pods see them."""

    a: ObjectStore
    b: ObjectStore
    gateway_of_a: ObjectStore
    root: ObjectStore


@pytest.fixture(scope="module")
def accounts() -> Iterator[Accounts]:
    with start_s3() as server, pytest.MonkeyPatch.context() as patch:
        keys = {name: server.user() for name in ("a", "b", "gateway_of_a")}
        names = {name: key["AWS_ACCESS_KEY_ID"] for name, key in keys.items()}
        tenants = [
            Tenant("team-a", principal=names["a"], sources=(RAW,)),
            Tenant("team-b", principal=names["b"]),
            Tenant("team-a", StoreRole.GATEWAY, names["gateway_of_a"]),
        ]
        server.put_policy(policy_document(ROOT, tenants))
        stores = {name: opened(server, key, patch) for name, key in keys.items()}
        found = Accounts(root=opened(server, server.environment(), patch), **stores)
        found.root.put_bytes(f"{RAW}/u.data", b"raw")
        found.b.put_bytes(f"{B}/sftjob/secret", SECRET)
        yield found


def opened(server: S3Server, keys: dict[str, str], patch: pytest.MonkeyPatch) -> ObjectStore:
    for name, value in keys.items():
        patch.setenv(name, value)
    return ObjectStore(server.store(), attempts=1)  # it has read them: another's come next


def artifact(store: ObjectStore, root: str, name: str = "run") -> ArtifactRef:
    writer = ArtifactWriter(store, f"{root}/sftjob/{name}/1/train-12345678")
    writer.add_bytes(b"weights", "model.bin")
    producer = Producer(kind="SFTJob", namespace="team-a", name=name, uid="u", step="train", work_hash=value_hash(1))
    return ArtifactRef(uri=writer.uri, digest=writer.commit(ArtifactKind.CHECKPOINT, producer, {}, {}).digest())


def test_a_tenant_does_all_that_jobs_do_in_its_own_prefix(accounts: Accounts, tmp_path: Path) -> None:
    ref = artifact(accounts.a, A)
    assert (fetch(accounts.a, ref, tmp_path / "model") / "model.bin").read_bytes() == b"weights"
    (tmp_path / "large").write_bytes(bytes(40 * 1024 * 1024))  # in several parts
    accounts.a.upload(tmp_path / "large", f"{A}/sftjob/run/work/large")
    assert {item.path for item in accounts.a.list(f"{A}/sftjob/run/work")} == {"large"}
    accounts.a.delete_tree(f"{A}/sftjob/run/work")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    letting = Letting(uri=ref.uri, digest=ref.digest, grace_seconds=0)
    for sweep, let_go in (("mark", (letting,)), ("delete", ())):
        spec = SweepSpec(store=Store(), root=A, sweep=sweep, now=now, let_go=let_go)
        run_sweep(spec, accounts.a, threading.Event())
    assert accounts.a.find_bytes(f"{ref.uri}/manifest.json") is None


def test_what_is_not_there_yet_is_told_apart_from_what_is_denied(accounts: Accounts) -> None:
    memo = memo_uri(ROOT, "team-a", "SFTJob", "train", value_hash(2))
    assert accounts.a.find_bytes(memo) is None
    assert accounts.a.find_version(memo) is None
    assert accounts.a.put_version(memo, b"{}", None)


ACTS: dict[str, Callable[[ObjectStore], object]] = {
    "read": lambda store: store.get_bytes(f"{B}/sftjob/secret"),
    "find": lambda store: store.find_bytes(f"{B}/sftjob/secret"),
    "find what is not there": lambda store: store.find_bytes(f"{B}/sftjob/nothing"),
    "write": lambda store: store.put_bytes(f"{B}/sftjob/memo/planted.json", b"{}"),
    "write over": lambda store: store.put_bytes(f"{B}/sftjob/secret", b"backdoor"),
    "mark for deletion": lambda store: store.put_version(f"{B}/retention/x.json", b"{}", None),
    "delete": lambda store: store.delete(f"{B}/sftjob/secret"),
    "list": lambda store: list(store.list(B)),
    "list all": lambda store: list(store.list(f"s3://{BUCKET}")),
    "list by a part of a name": lambda store: store._client.list_objects_v2(Bucket=BUCKET, Prefix="star/team-"),
    "a namespace whose name begins alike": lambda store: store.put_bytes(f"{A}-2/x", b"1"),
    "write raw files": lambda store: store.put_bytes(f"{RAW}/u.data", b"1"),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("who", ["a", "gateway_of_a"])
def test_a_tenant_can_do_nothing_to_anothers(act: str, who: str, accounts: Accounts) -> None:
    before = {item.path: item.version for item in accounts.root.list(f"s3://{BUCKET}")}
    with pytest.raises((TerminalFailure, ClientError)) as refused:
        ACTS[act](getattr(accounts, who))
    if isinstance(refused.value, TerminalFailure):
        assert refused.value.reason is Reason.STORE_ACCESS_DENIED
    else:
        assert refused.value.response["Error"]["Code"] == "AccessDenied"
    assert {item.path: item.version for item in accounts.root.list(f"s3://{BUCKET}")} == before
    assert accounts.b.get_bytes(f"{B}/sftjob/secret") == SECRET


def test_a_tenant_reads_its_raw_files(accounts: Accounts) -> None:
    assert [item.path for item in accounts.a.list(RAW)] == ["u.data"]
    assert accounts.a.get_bytes(f"{RAW}/u.data") == b"raw"


def test_a_gateway_reads_artifacts_and_writes_feedback_alone(accounts: Accounts, tmp_path: Path) -> None:
    ref = artifact(accounts.a, A, "served")
    gateway = accounts.gateway_of_a
    assert (fetch(gateway, ref, tmp_path / "model") / "model.bin").is_file()
    gateway.put_bytes(f"{A}/stardeployment/star/feedback/date=2026-01-01/x.jsonl", b"{}")
    for uri in (f"{ref.uri}/model.bin", f"{A}/sftjob/memo/x.json", f"{A}/retention/x.json"):
        with pytest.raises(TerminalFailure, match="right s3:PutObject"):
            gateway.put_bytes(uri, b"backdoor")
    with pytest.raises(TerminalFailure, match="right s3:DeleteObject"):
        gateway.delete(f"{ref.uri}/manifest.json")


def test_a_gateway_uses_what_is_marked_and_is_not_its_to_spare(accounts: Accounts, tmp_path: Path) -> None:
    ref = artifact(accounts.a, A, "marked")
    spec = SweepSpec(
        store=Store(),
        root=A,
        sweep="mark",
        now=datetime(2026, 1, 1, tzinfo=UTC),
        let_go=(Letting(uri=ref.uri, digest=ref.digest),),
    )
    run_sweep(spec, accounts.a, threading.Event())
    assert (fetch(accounts.gateway_of_a, ref, tmp_path / "model") / "model.bin").is_file()


def test_without_principals_it_is_an_identitys_own() -> None:
    [listing, objects] = policy_document("s3://bucket", [Tenant("team")])["Statement"]
    assert listing == {
        "Effect": "Allow",
        "Action": ["s3:ListBucket"],
        "Resource": "arn:aws:s3:::bucket",
        "Condition": {"StringLike": {"s3:prefix": ["team/*"]}},
    }
    assert objects["Resource"] == "arn:aws:s3:::bucket/team/*"
