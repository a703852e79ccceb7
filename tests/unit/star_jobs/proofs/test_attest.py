"""The proof of a checkpoint: what it says, that it says it once, and that it is kept apart from the checkpoint."""

import re
from typing import Any

import pytest

from star_contracts.artifact import ArtifactKind, Manifest
from star_contracts.base import sha256_digest
from star_contracts.errors import JobWarning, WarningReason
from star_contracts.proofs import MadeBy
from star_jobs.errors import TerminalFailure
from tests.support.proofs import Proven


def card_of(proven: Proven, **spec: Any) -> str:
    made = proven.attest(**spec).artifact
    assert made is not None
    return proven.objects[f"{made.uri}/card.md"][0].decode()


def test_a_proof_lies_beside_the_checkpoint_and_names_its_digest(proven: Proven) -> None:
    result = proven.attest()
    assert result.artifact is not None
    assert result.artifact.uri.startswith(f"{proven.checkpoint.uri}.proofs/")
    manifest = proven.json(f"{result.artifact.uri}/manifest.json")
    assert manifest["kind"] == "proof"
    assert manifest["inputs"] == {"checkpoint": proven.checkpoint.digest, "report.test": proven.report.digest}
    names = {"card.md", "card.html", "provenance.json", "verdicts.json"}
    assert set(result.files) == names | {"provenance.sigstore.json", "verdicts.sigstore.json"}
    for name, digest in result.files.items():
        assert sha256_digest(proven.objects[f"{result.artifact.uri}/{name}"][0]) == digest
    assert len(result.termination_message()) < 4096


def test_the_provenance_is_a_statement_of_slsa_with_materials_images_parameters_and_seeds(proven: Proven) -> None:
    result = proven.attest()
    assert result.artifact is not None
    statement = proven.json(f"{result.artifact.uri}/provenance.json")
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    [subject] = statement["subject"]
    assert "sha256:" + subject["digest"]["sha256"] == proven.checkpoint.digest
    build = statement["predicate"]["buildDefinition"]
    assert build["externalParameters"]["seeds"] == {"hyperparameters.seed": 42}
    found = {one["name"]: one["digest"]["sha256"] for one in build["resolvedDependencies"]}
    assert found["dataset"] == proven.dataset.digest.removeprefix("sha256:")
    assert found["image SFTJob/student/train"] == "9" * 64
    assert statement["predicate"]["runDetails"]["metadata"]["finishedOn"] == "2026-05-01T11:00:00Z"


def test_the_subject_is_the_file_whose_sha256_is_the_digest(proven: Proven) -> None:
    """So that `cosign verify-blob-attestation` takes `manifest.json` for the blob."""
    data = proven.objects[f"{proven.checkpoint.uri}/manifest.json"][0]
    assert sha256_digest(data) == proven.checkpoint.digest


def test_the_card_tells_of_use_data_training_metrics_and_limits_and_has_its_plot_without_scripts(
    proven: Proven,
) -> None:
    result = proven.attest()
    assert result.artifact is not None
    text = proven.objects[f"{result.artifact.uri}/card.md"][0].decode()
    page = proven.objects[f"{result.artifact.uri}/card.html"][0].decode()
    for section in ("Intended use", "Data", "Training", "Metrics", "Limits", "Materials"):
        assert f"## {section}" in text
        assert f"<h2>{section}</h2>" in page
    for card in (text, page):
        assert proven.checkpoint.digest in card
        assert proven.report.digest in card
        assert "hrAvg" in card
    assert "<svg" in page
    assert "<script" not in page
    assert not re.search(r'(src|href)="', page), "nothing comes from anywhere else"


def test_a_card_escapes_what_it_is_given(proven: Proven) -> None:
    spec = proven.attest_spec(facts="odd")
    odd = {"note": "<script>alert(1)</script>"}
    maker = spec.made_by[0].model_copy(update={"parameters": odd})
    result = proven.attest(facts="odd", made_by=(maker,))
    assert result.artifact is not None
    assert "<script>" not in proven.objects[f"{result.artifact.uri}/card.html"][0].decode()
    assert '    "note"' in proven.objects[f"{result.artifact.uri}/card.md"][0].decode(), "indented, so code"


def test_limits_say_what_the_figures_do_not(proven: Proven) -> None:
    nothing = proven.attest(facts="none", measured=())
    assert nothing.artifact is not None
    assert "has not been measured" in proven.objects[f"{nothing.artifact.uri}/card.md"][0].decode()
    assert "<svg" not in proven.objects[f"{nothing.artifact.uri}/card.html"][0].decode()


@pytest.mark.bad_input
@pytest.mark.parametrize("about", ["another checkpoint", "other facts", "no proof"])
def test_what_lies_there_and_is_not_this_proof_is_not_taken_for_it(about: str, proven: Proven) -> None:
    true = proven.attest()
    assert true.artifact is not None
    place = f"{true.artifact.uri}/manifest.json"
    manifest = Manifest.model_validate_json(proven.objects[place][0])
    digest = "sha256:" + "0" * 64
    changes: dict[str, dict[str, object]] = {
        "another checkpoint": {"inputs": {**manifest.inputs, "checkpoint": digest}},
        "other facts": {"producer": manifest.producer.model_copy(update={"work_hash": digest})},
        "no proof": {"kind": ArtifactKind.CHECKPOINT},
    }
    planted = manifest.model_copy(update=changes[about])
    proven.store.put_bytes(place, planted.canonical())
    again = proven.attest()
    assert not again.reused
    assert again.artifact is not None
    assert again.artifact.uri == true.artifact.uri
    made = Manifest.model_validate_json(proven.objects[place][0])
    assert (made.kind, made.producer, made.inputs) == (manifest.kind, manifest.producer, manifest.inputs)


def test_equal_facts_are_written_once(proven: Proven) -> None:
    first = proven.attest()
    before = dict(proven.objects)
    again = proven.attest()
    assert (again.artifact, again.files, again.reused) == (first.artifact, first.files, True)
    assert dict(proven.objects) == before


def test_a_later_proof_takes_the_provenance_over_when_the_training_job_is_gone(proven: Proven) -> None:
    first = proven.attest(facts="first", measured=())
    later = proven.attest(facts="later", made_by=(), previous=first.artifact)
    assert later.files["provenance.json"] == first.files["provenance.json"]
    assert later.files["verdicts.json"] != first.files["verdicts.json"]


def test_a_provenance_of_another_checkpoint_is_not_taken_over(proven: Proven) -> None:
    first = proven.attest(facts="first")
    assert first.artifact is not None
    other = proven.put_report("sha256:" + "1" * 64, "evaluation/other/1/evaluate")
    later = proven.attest(facts="later", previous=other)
    assert later.files["provenance.json"] == first.files["provenance.json"], "made anew of the same facts"


def test_without_a_key_nothing_is_signed(proven: Proven) -> None:
    result = proven.attest(signed=False)
    assert result.metrics["signed"] == 0
    assert not [name for name in result.files if "sigstore" in name]


@pytest.mark.bad_input
def test_what_is_no_checkpoint_gets_no_card(proven: Proven) -> None:
    proven.checkpoint = proven.report
    with pytest.raises(TerminalFailure, match="is an artifact of kind report, and no checkpoint"):
        proven.attest()


def test_warnings_of_the_data_are_limits(proven: Proven) -> None:
    warning = JobWarning(reason=WarningReason.DATA_LEFT_OUT, message="3 lines were left out")
    made_of = {"dataset": proven.put("recdataset/e/1/prepare", ArtifactKind.DATASET, {}, {}, warnings=(warning,))}
    inputs = {role: ref.digest for role, ref in made_of.items()}
    proven.checkpoint = proven.put("sftjob/warned/1/train", ArtifactKind.CHECKPOINT, {}, inputs)
    data = MadeBy(kind="RecDataset", name="e", artifact=made_of["dataset"])
    assert "- 3 lines were left out" in card_of(proven, facts="warned", made_by=(data,))


def test_a_report_of_another_checkpoint_does_not_count(proven: Proven) -> None:
    other = "sha256:" + "1" * 64
    proven.report = proven.put_report(other, "evaluation/other/1/evaluate")
    text = card_of(proven)
    assert f"Evaluation test does not count: its report {proven.report.digest} measured {other}" in text
    assert "has not been measured" in text


def test_what_no_digest_leads_to_is_not_told_of(proven: Proven) -> None:
    """A dataset of the same name was made anew since."""
    other = proven.put("recdataset/d/2/prepare", ArtifactKind.DATASET, {"x": b""}, {})
    assert other.digest not in card_of(proven, made_by=(MadeBy(kind="RecDataset", name="d", artifact=other),))


def test_what_is_gone_from_the_store_is_a_limit(proven: Proven) -> None:
    proven.store.delete(f"{proven.dataset.uri}/manifest.json")
    made = proven.attest().artifact
    assert made is not None
    assert "RecDataset d made is no longer in the store" in proven.objects[f"{made.uri}/card.md"][0].decode()
