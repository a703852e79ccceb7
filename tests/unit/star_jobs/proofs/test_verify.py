"""Whatever was tampered with is refused, and the sentence names the digests that differ."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from star_contracts.artifact import Manifest
from star_contracts.base import canonical_json, sha256_digest
from star_contracts.errors import Reason
from star_contracts.proofs import PublicKey, SignatureRule
from star_jobs.errors import TerminalFailure
from star_jobs.proofs.keys import signing_key
from tests.support.proofs import METRICS, Proven, new_key, private_pem


def refused(proven: Proven, **asked: Any) -> TerminalFailure:
    """What is said of it."""
    with pytest.raises(TerminalFailure) as caught:
        proven.verify(**({"rule": proven.rule(), "verdict": proven.verdict()} | asked))
    return caught.value


def names(text: str, *digests: str) -> bool:
    return all(digest in text for digest in digests)


@pytest.fixture
def proof(proven: Proven) -> str:
    """The prefix of a signed proof."""
    made = proven.attest().artifact
    assert made is not None
    return made.uri


def rehash(proven: Proven, proof: str) -> None:
    """Have a proof's manifest say what its files are now, as somebody thorough would."""
    manifest = Manifest.model_validate(proven.json(f"{proof}/manifest.json"))
    files = [
        one.model_copy(
            update={"sha256": sha256_digest(data)[7:], "bytes": len(data)},
        )
        for one in manifest.files
        for data in [proven.objects[f"{proof}/{one.path}"][0]]
    ]
    changed = manifest.model_copy(update={"files": tuple(files)})
    proven.objects.write(f"{proof}/manifest.json", changed.canonical())


def test_what_is_signed_and_bound_passes(proven: Proven, proof: str) -> None:
    assert proven.verify(proven.rule(), proven.verdict()).metrics == {"signers": 1, "verdicts": 1}


@pytest.mark.bad_input
def test_a_tampered_report_is_refused(proven: Proven, proof: str) -> None:
    place = f"{proven.report.uri}/report.json"
    was = sha256_digest(proven.objects[place][0])
    proven.tamper(place, b'"tools": false', b'"tools": true ')
    failure = refused(proven)
    assert failure.reason is Reason.ARTIFACT_CORRUPTED
    assert names(failure.message, was, sha256_digest(proven.objects[place][0]), proven.report.digest, place)


@pytest.mark.bad_input
def test_a_report_whose_manifest_was_tampered_with_is_refused(proven: Proven, proof: str) -> None:
    place = f"{proven.report.uri}/manifest.json"
    proven.tamper(place, b"0.42", b"0.99")
    failure = refused(proven)
    assert failure.reason is Reason.ARTIFACT_CORRUPTED
    assert names(failure.message, proven.report.digest, sha256_digest(proven.objects[place][0]))


@pytest.mark.bad_input
def test_a_tampered_file_of_the_checkpoint_is_refused(proven: Proven, proof: str) -> None:
    place = f"{proven.checkpoint.uri}/model.safetensors"
    proven.tamper(place, b"weights", b"w3ights")
    failure = refused(proven)
    assert failure.reason is Reason.ARTIFACT_CORRUPTED
    assert names(failure.message, place, sha256_digest(b"weights"), sha256_digest(b"w3ights"))


@pytest.mark.bad_input
def test_a_tampered_manifest_of_the_checkpoint_is_refused(proven: Proven, proof: str) -> None:
    place = f"{proven.checkpoint.uri}/manifest.json"
    proven.tamper(place, b"config.json", b"c0nfig.json")
    failure = refused(proven)
    assert failure.reason is Reason.ARTIFACT_CORRUPTED
    assert names(failure.message, proven.checkpoint.digest, sha256_digest(proven.objects[place][0]))


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["card.md", "card.html"])
def test_a_tampered_card_is_refused(proven: Proven, proof: str, name: str) -> None:
    place = f"{proof}/{name}"
    was = sha256_digest(proven.objects[place][0])
    proven.tamper(place, b"0.42", b"0.99")
    now = sha256_digest(proven.objects[place][0])
    failure = refused(proven)
    assert failure.reason is Reason.PROOF_ALTERED
    assert names(failure.message, place, was, now)
    rehash(proven, proof)
    failure = refused(proven)
    assert failure.reason is Reason.PROOF_ALTERED
    assert names(failure.message, place, was, now, "signed verdicts.json")


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["provenance", "verdicts"])
def test_a_tampered_statement_is_refused(proven: Proven, proof: str, name: str) -> None:
    place = f"{proof}/{name}.json"
    was = sha256_digest(proven.objects[place][0])
    proven.tamper(place, proven.dataset.digest[7:].encode(), b"f" * 64)
    rehash(proven, proof)
    failure = refused(proven)
    assert failure.reason is Reason.PROOF_ALTERED
    assert names(failure.message, place, was, sha256_digest(proven.objects[place][0]))


@pytest.mark.bad_input
def test_a_tampered_signature_is_refused(proven: Proven, proof: str) -> None:
    place = f"{proof}/verdicts.sigstore.json"
    bundle = proven.json(place)
    statement = base64.b64decode(bundle["dsseEnvelope"]["payload"]).replace(b"0.42", b"0.99")
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(statement).decode()
    proven.objects.write(place, canonical_json(bundle))
    rehash(proven, proof)
    failure = refused(proven)
    assert failure.reason is Reason.PROOF_ALTERED
    assert names(failure.message, place, sha256_digest(statement), "key key0")


@pytest.mark.bad_input
def test_a_signature_of_other_bytes_is_refused(proven: Proven, proof: str) -> None:
    place = f"{proof}/provenance.sigstore.json"
    was = sha256_digest(proven.objects[place][0])
    proven.tamper(place, b'"sig":"', b'"sig":"AAAA')
    failure = refused(proven)
    assert failure.reason is Reason.PROOF_ALTERED
    assert names(failure.message, was, sha256_digest(proven.objects[place][0]))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "content", [b"{}", b"[]", b"\xff", b'{"dsseEnvelope": {"payloadType": "text/plain"}}', b"null"]
)
def test_what_is_no_signature_is_refused(proven: Proven, proof: str, content: bytes) -> None:
    proven.objects.write(f"{proof}/provenance.sigstore.json", content)
    rehash(proven, proof)
    failure = refused(proven)
    assert failure.reason is Reason.PROOF_ALTERED
    assert names(failure.message, sha256_digest(content))


@pytest.mark.bad_input
def test_a_foreign_signature_is_refused_and_both_keys_are_named(proven: Proven, proof: str) -> None:
    failure = refused(proven, rule=proven.rule(new_key()))
    assert failure.reason is Reason.SIGNATURE_FOREIGN
    assert len(set(re.findall("sha256:[0-9a-f]{64}", failure.message))) == 3, "the checkpoint, and two keys"


@pytest.mark.bad_input
def test_what_is_not_signed_is_refused(proven: Proven) -> None:
    failure = refused(proven)
    assert failure.reason is Reason.PROOF_MISSING
    assert names(failure.message, proven.checkpoint.digest, "has no proof")
    proven.attest(signed=False)
    failure = refused(proven)
    assert failure.reason is Reason.PROOF_MISSING
    assert names(failure.message, "provenance.sigstore.json")


@pytest.mark.bad_input
def test_a_proof_of_another_checkpoint_is_refused(proven: Proven, proof: str) -> None:
    genuine = proven.checkpoint
    other = proven.put("sftjob/other/1/train", "checkpoint", {"config.json": b"[]"}, {})  # type: ignore[arg-type]
    for uri in [uri for uri in proven.objects if uri.startswith(proof)]:
        proven.objects[uri.replace(genuine.uri, other.uri)] = proven.objects[uri]
    proven.checkpoint = other
    failure = refused(proven, verdict=None)
    assert failure.reason is Reason.PROOF_ALTERED
    assert names(failure.message, genuine.digest, other.digest)
    moved = proof.replace(genuine.uri, other.uri)
    proven.tamper(f"{moved}/manifest.json", genuine.digest.encode(), other.digest.encode())
    failure = refused(proven, verdict=None)
    assert failure.reason is Reason.PROOF_ALTERED
    assert names(failure.message, genuine.digest, other.digest, "provenance.json")


@pytest.mark.bad_input
class TestVerdicts:
    def test_edited_figures_are_not_believed(self, proven: Proven) -> None:
        failure = refused(proven, rule=None, verdict=proven.verdict(metrics=METRICS | {"hrAvg": 0.9}))
        assert failure.reason is Reason.VERDICT_NOT_BOUND
        assert "hrAvg as 0.9" in failure.message
        assert names(failure.message, proven.report.digest)

    def test_figures_that_the_report_does_not_have_are_not_believed(self, proven: Proven) -> None:
        failure = refused(proven, rule=None, verdict=proven.verdict(metrics=METRICS | {"made.up": 1.0}))
        assert "made.up as 1" in failure.message

    def test_a_report_of_another_checkpoint_is_not_believed(self, proven: Proven) -> None:
        other = "sha256:" + "1" * 64
        proven.report = proven.put_report(other, "evaluation/other/1/evaluate")
        failure = refused(proven, rule=None)
        assert failure.reason is Reason.VERDICT_NOT_BOUND
        assert names(failure.message, other, proven.checkpoint.digest, proven.report.digest)

    def test_a_report_on_other_data_is_not_believed(self, proven: Proven) -> None:
        wanted = "sha256:" + "2" * 64
        measured = {"llm": proven.checkpoint.digest, "dataset": wanted}
        failure = refused(proven, rule=None, verdict=proven.verdict(measured=measured))
        assert names(failure.message, wanted, proven.dataset.digest)

    def test_a_report_with_other_settings_is_not_believed(self, proven: Proven) -> None:
        other = proven.settings.model_copy(update={"best_of": 4})
        failure = refused(proven, rule=None, verdict=proven.verdict(settings=other))
        assert "bestOf differs" in failure.message

    def test_a_checkpoint_is_no_report(self, proven: Proven) -> None:
        failure = refused(proven, rule=None, verdict=proven.verdict(report=proven.checkpoint))
        assert "is an artifact of kind checkpoint" in failure.message


def test_a_newer_proof_that_does_not_hold_spoils_none_that_does(proven: Proven, proof: str) -> None:
    proven.attest(facts="zzz", signed=False)
    assert proven.verify(proven.rule()).metrics["signers"] == 1


def test_a_threshold_counts_keys_of_all_proofs(proven: Proven, proof: str) -> None:
    first = proven.key
    second = proven.key = new_key()
    rule = proven.rule(first, second, threshold=2)
    failure = refused(proven, rule=rule)
    assert failure.reason is Reason.PROOF_MISSING
    assert "signed by 1 of the keys" in failure.message
    proven.attest(facts="of another namespace")
    assert proven.verify(rule).metrics["signers"] == 2


def test_a_key_that_is_named_twice_counts_once(proven: Proven, proof: str) -> None:
    [key] = proven.rule().keys
    twice = SignatureRule(keys=(key, key.model_copy(update={"name": "again"})), threshold=2)
    assert refused(proven, rule=twice).reason is Reason.PROOF_MISSING


def test_ed25519_signs_as_well(tmp_path: Path) -> None:
    proven = Proven(tmp_path, ed25519.Ed25519PrivateKey.generate())
    proven.attest()
    assert proven.verify(proven.rule()).metrics["signers"] == 1


@pytest.mark.bad_input
class TestKeys:
    def test_a_private_key_is_no_public_one(self, proven: Proven, proof: str) -> None:
        rule = SignatureRule(keys=(PublicKey(name="k", pem=private_pem(proven.key).decode()),))
        failure = refused(proven, rule=rule)
        assert failure.reason is Reason.INVALID_KEY
        assert "is a private key" in failure.message

    @pytest.mark.parametrize("pem", ["", "hello", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
    def test_what_is_no_key_is_named(self, proven: Proven, proof: str, pem: str) -> None:
        failure = refused(proven, rule=SignatureRule(keys=(PublicKey(name="ours", pem=pem),)))
        assert failure.reason is Reason.INVALID_KEY
        assert "ours" in failure.message

    def test_a_key_with_a_password_needs_it(self, tmp_path: Path) -> None:
        key, password = tmp_path / "key", tmp_path / "password"
        key.write_bytes(private_pem(new_key(), b"secret"))
        with pytest.raises(TerminalFailure, match=r"encrypted, and there is no signing\.password"):
            signing_key(key, password)
        password.write_text("wrong")
        with pytest.raises(TerminalFailure, match="is not its password"):
            signing_key(key, password)
        password.write_text("secret\n")
        assert signing_key(key, password) is not None

    def test_rsa_is_refused(self, tmp_path: Path) -> None:
        key = tmp_path / "key"
        made = rsa.generate_private_key(65537, 2048)
        kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        key.write_bytes(made.private_bytes(*kinds))
        with pytest.raises(TerminalFailure, match="of a kind that is not taken"):
            signing_key(key, None)

    def test_nothing_of_a_broken_key_is_told(self, tmp_path: Path) -> None:
        key = tmp_path / "key"
        key.write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0IQ==\n-----END PRIVATE KEY-----\n")
        with pytest.raises(TerminalFailure) as caught:
            signing_key(key, None)
        assert "c2VjcmV0" not in caught.value.message


def test_the_bundle_has_sigstores_form(proven: Proven, proof: str) -> None:
    bundle = json.loads(proven.objects[f"{proof}/provenance.sigstore.json"][0])
    assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert bundle["dsseEnvelope"]["payloadType"] == "application/vnd.in-toto+json"
    assert set(bundle["verificationMaterial"]) == {"publicKey", "tlogEntries"}
