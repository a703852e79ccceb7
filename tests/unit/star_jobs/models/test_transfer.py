"""Models into a store, and checkpoints with their proofs from one store into another: the digest stays what it was."""

import threading
from pathlib import Path

import pytest

from star_contracts.artifact import ArtifactKind, ArtifactRef
from star_contracts.base import value_hash
from star_contracts.errors import Reason
from star_contracts.job import Store
from star_contracts.proofs import AttestSpec, VerifySpec, proof_uri
from star_jobs.errors import TerminalFailure
from star_jobs.models.transfer import Home, copy, export, import_exported, import_model, is_exported
from star_jobs.proofs.attest import run_attest
from star_jobs.proofs.verify import run_verify
from star_jobs.storage import ArtifactWriter, read_manifest
from tests.support.memorystore import MemoryStore, Objects
from tests.support.proofs import Proven, private_pem
from tests.support.training import write_model


@pytest.fixture
def home() -> Home:
    return Home(MemoryStore(Objects()), "s3://star", "team", "base")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    write_model(folder)
    (folder / "optimizer.pt").write_bytes(b"state")
    return folder


def objects(home: Home) -> Objects:
    assert isinstance(home.store, MemoryStore)
    return home.store.objects


def signed(home: Home, ref: ArtifactRef, proven: Proven) -> None:
    """Have the checkpoint attested with the key of `proven`."""
    proven.key_file.write_bytes(private_pem(proven.key))
    facts = value_hash("facts")
    spec = AttestSpec(
        store=Store(),
        facts=facts,
        output=proof_uri(ref.uri, facts),
        namespace="team",
        name="base",
        checkpoint=ref,
        builder="b",
        key_file=str(proven.key_file),
    )
    run_attest(spec, home.store, threading.Event())


def test_a_models_folder_becomes_a_checkpoint_once(home: Home, model: Path) -> None:
    ref = import_model(model, home)
    assert ref.uri.startswith("s3://star/team/checkpoint/base/1/import-")
    assert f"{ref.uri}/config.json" in objects(home)
    assert f"{ref.uri}/optimizer.pt" not in objects(home)
    before = dict(objects(home))
    assert import_model(model, home) == ref
    assert dict(objects(home)) == before


@pytest.mark.bad_input
def test_what_claims_to_be_this_model_and_is_another_is_not_taken_for_it(home: Home, model: Path) -> None:
    ref = import_model(model, home)
    claimed = read_manifest(home.store, ref).producer
    home.store.delete_tree(ref.uri)
    writer = ArtifactWriter(home.store, ref.uri)
    writer.add_bytes(b"backdoor", "model.safetensors")
    writer.commit(ArtifactKind.CHECKPOINT, claimed, {}, {})
    assert import_model(model, home) == ref
    read_manifest(home.store, ref)


def test_other_content_lies_elsewhere(home: Home, model: Path) -> None:
    ref = import_model(model, home)
    config = model / "config.json"
    config.write_text(config.read_text() + "\n")
    other = import_model(model, home)
    assert other.uri != ref.uri
    assert other.digest != ref.digest


@pytest.mark.bad_input
def test_what_cannot_be_loaded_is_refused_before_anything_is_written(home: Home, model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(TerminalFailure, match="weights") as caught:
        import_model(model, home)
    assert caught.value.reason is Reason.INVALID_MODEL
    assert not objects(home)


def test_an_exported_checkpoint_has_the_same_digest_in_another_store_and_its_signatures_hold_there(
    home: Home, model: Path, tmp_path: Path
) -> None:
    ref, proven = import_model(model, home), Proven(tmp_path)
    signed(home, ref, proven)
    assert export(home.store, ref, tmp_path / "out") == 1
    assert is_exported(tmp_path / "out")
    there = Home(MemoryStore(Objects()), "s3://other/prefix", "serving", "base")
    moved = import_exported(tmp_path / "out", there)
    assert moved.digest == ref.digest
    assert moved.uri.startswith("s3://other/prefix/serving/checkpoint/base/1/import-")
    spec = VerifySpec(store=Store(), checkpoint=moved, signatures=proven.rule())
    assert run_verify(spec, there.store, threading.Event()).metrics["signers"] == 1
    before = dict(objects(there))
    assert import_exported(tmp_path / "out", there) == moved
    assert dict(objects(there)) == before, "a second time changes nothing"


def test_it_goes_from_store_to_store(home: Home, model: Path, tmp_path: Path) -> None:
    ref = import_model(model, home)
    signed(home, ref, Proven(tmp_path))
    there = Home(MemoryStore(Objects()), "s3://other", "serving", "base")
    moved, count = copy(home.store, ref, there, tmp_path)
    assert (moved.digest, count) == (ref.digest, 1)
    assert objects(there).under(f"{moved.uri}.proofs")


@pytest.mark.bad_input
def test_a_file_that_changed_on_the_way_is_refused_with_both_digests(home: Home, model: Path, tmp_path: Path) -> None:
    ref = import_model(model, home)
    export(home.store, ref, tmp_path / "out")
    config = tmp_path / "out/checkpoint/config.json"
    config.write_text(config.read_text() + " ")
    there = Home(MemoryStore(Objects()), "s3://other", "serving", "base")
    with pytest.raises(TerminalFailure, match=r"config\.json is sha256:\w{64}, and the manifest sha256:\w{64} has it"):
        import_exported(tmp_path / "out", there)
    assert not objects(there)


@pytest.mark.bad_input
def test_a_proof_of_another_checkpoint_does_not_come_along(home: Home, model: Path, tmp_path: Path) -> None:
    ref = import_model(model, home)
    signed(home, ref, Proven(tmp_path))
    for uri in objects(home).under(f"{ref.uri}.proofs"):
        if uri.endswith("manifest.json"):
            data = objects(home)[uri][0].replace(ref.digest.encode(), b"sha256:" + b"1" * 64)
            objects(home).write(uri, data)
    assert export(home.store, ref, tmp_path / "out") == 0


@pytest.mark.bad_input
def test_what_is_no_checkpoint_is_not_exported(tmp_path: Path) -> None:
    proven = Proven(tmp_path)
    with pytest.raises(TerminalFailure, match="is an artifact of kind report, and no checkpoint"):
        export(proven.store, proven.report, tmp_path / "out")
