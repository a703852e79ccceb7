"""Whether a checkpoint is signed by keys that are trusted: looked for in its proofs, wherever they were made.

A proof counts as a whole: its manifest's files, both statements under the same key, the checkpoint's digest as their
subject, and the card as its statement has it. One that is whole and signed is enough, whatever lies beside it; where
there is none, the newest is told about.
"""

import json
from collections.abc import Sequence
from typing import Any

from star_contracts.artifact import MANIFEST_NAME, ArtifactKind, ArtifactRef, Manifest
from star_contracts.base import sha256_digest
from star_contracts.errors import Reason
from star_contracts.proofs import CARD, PAGE, PROVENANCE, VERDICTS, SignatureRule, bundle_of, proofs_uri
from star_jobs.errors import TerminalFailure
from star_jobs.proofs.bundle import NoBundle, Signed, read
from star_jobs.proofs.keys import Verifier, verifier
from star_jobs.storage import ObjectStore, find_manifest

CARDS = (CARD, PAGE)


def require_signatures(checkpoint: ArtifactRef, rule: SignatureRule, store: ObjectStore) -> frozenset[str]:
    """Return the names of the keys that signed the checkpoint.

    Raises TerminalFailure: ProofMissing, ProofAltered, SignatureForeign, InvalidKey.
    """
    keys = list({key.id: key for key in map(verifier, rule.keys)}.values())  # one that is named twice counts once
    signers: set[str] = set()
    why: TerminalFailure | None = None
    for uri in _newest_first(checkpoint, store):
        try:
            signers |= signers_of(uri, checkpoint, keys, store)
        except TerminalFailure as failure:
            why = why or failure
    if len(signers) >= rule.threshold:
        return frozenset(signers)
    if why is not None:
        raise why
    text = (
        f"{checkpoint.uri} ({checkpoint.digest}) is signed by {len(signers)} of the keys that requireSignatures names"
    )
    raise TerminalFailure(
        Reason.PROOF_MISSING,
        f"{text} and {rule.threshold} are required; have the others sign it (docs/proofs.md), or lower the threshold",
    )


def signers_of(uri: str, checkpoint: ArtifactRef, keys: Sequence[Verifier], store: ObjectStore) -> set[str]:
    """Return the names of the keys that signed the proof at a prefix. Raises TerminalFailure where it does not hold."""
    files, manifest = _files(uri, store)
    about = manifest.inputs.get("checkpoint", "nothing")
    if about != checkpoint.digest:
        raise _altered(f"the proof at {uri} is of {about}, and not of {checkpoint.digest}")
    signed = {name: _bundle(uri, name, files) for name in (PROVENANCE, VERDICTS)}
    found = [one.signers(keys) for one in signed.values()]
    both = found[0] & found[1]
    if not both:
        raise _foreign(uri, checkpoint, signed, keys)
    for name, one in signed.items():
        _require_statement(uri, name, one, files, checkpoint)
    _require_card(uri, files)
    return both


def _newest_first(checkpoint: ArtifactRef, store: ObjectStore) -> list[str]:
    """Return the prefixes of a checkpoint's proofs. Raises TerminalFailure(ProofMissing) where there is none."""
    root = proofs_uri(checkpoint.uri)
    ends = f"/{MANIFEST_NAME}"
    found = [one for one in store.list(root) if one.path.endswith(ends) and one.path.count("/") == 1]
    if not found:
        raise TerminalFailure(
            Reason.PROOF_MISSING,
            f"{checkpoint.uri} ({checkpoint.digest}) has no proof at {root}, so that nothing is signed; have its "
            "Checkpoint's namespace sign it, or copy its proofs with it (docs/proofs.md)",
        )
    found.sort(key=lambda one: (one.modified, one.path), reverse=True)
    return [f"{root}/{one.path.removesuffix(ends)}" for one in found]


def _files(uri: str, store: ObjectStore) -> tuple[dict[str, bytes], Manifest]:
    """Read all of a proof. Raises TerminalFailure(ProofAltered) for a file that is not what the manifest says."""
    found = find_manifest(store, uri)
    if found is None or found[0].kind is not ArtifactKind.PROOF:
        raise _altered(f"the artifact at {uri} is no proof")
    manifest, ref = found
    files = {}
    for entry in manifest.files:
        data = store.find_bytes(f"{uri}/{entry.path}")
        have = "missing" if data is None else sha256_digest(data)
        if data is None or have != f"sha256:{entry.sha256}":
            raise _altered(
                f"{uri}/{entry.path} is {have}, and its manifest {ref.digest} has it as sha256:{entry.sha256}"
            )
        files[entry.path] = data
    return files, manifest


def _bundle(uri: str, statement: str, files: dict[str, bytes]) -> Signed:
    name = bundle_of(statement)
    if name not in files or statement not in files:
        raise TerminalFailure(
            Reason.PROOF_MISSING,
            f"the proof at {uri} is not signed: it has no {name if statement in files else statement}; give its "
            "namespace the signing Secret, and have it signed (docs/proofs.md)",
        )
    try:
        return read(files[name])
    except NoBundle as error:
        raise _altered(f"{uri}/{name} ({sha256_digest(files[name])}) is no signature: {error}") from error


def _foreign(uri: str, checkpoint: ArtifactRef, signed: dict[str, Signed], keys: Sequence[Verifier]) -> TerminalFailure:
    """Return why none of the keys signed it: another key did, or one of them signed something else."""
    known = {key.id: key.name for key in keys}
    for name, one in signed.items():
        if one.hint in known and not one.signers(keys):
            return _altered(
                f"{uri}/{bundle_of(name)} says that key {known[one.hint]} ({one.hint}) signed the statement "
                f"{sha256_digest(one.statement)}, and that key did not: the signature or the statement was changed"
            )
    hints = ", ".join(sorted({one.hint for one in signed.values()}))
    names = ", ".join(f"{key.name} ({key.id})" for key in keys)
    return TerminalFailure(
        Reason.SIGNATURE_FOREIGN,
        f"{checkpoint.uri} ({checkpoint.digest}) is signed by key {hints}, and requireSignatures.keys has {names}; "
        "name that key as well if you trust it, or have the checkpoint signed by one of these",
    )


def _require_statement(uri: str, name: str, signed: Signed, files: dict[str, bytes], checkpoint: ArtifactRef) -> None:
    have, was = sha256_digest(files[name]), sha256_digest(signed.statement)
    if have != was:
        raise _altered(f"{uri}/{name} is {have}, and {was} was signed")
    subjects = _subjects(signed.statement)
    if checkpoint.digest not in subjects:
        told = ", ".join(sorted(subjects)) or "nothing"
        raise _altered(f"{uri}/{name} ({have}) speaks of {told}, and not of the checkpoint {checkpoint.digest}")


def _require_card(uri: str, files: dict[str, bytes]) -> None:
    """Raise TerminalFailure(ProofAltered) for a card other than that of the signed statement."""
    try:
        signed = {
            one["name"]: "sha256:" + one["digest"]["sha256"] for one in _json(files[VERDICTS])["predicate"]["card"]
        }
    except (KeyError, TypeError) as error:
        raise _altered(f"{uri}/{VERDICTS} ({sha256_digest(files[VERDICTS])}) names no card") from error
    for name in CARDS:
        have = sha256_digest(files[name]) if name in files else "missing"
        if have != signed.get(name):
            raise _altered(f"{uri}/{name} is {have}, and the signed {VERDICTS} has it as {signed.get(name)}")


def _subjects(statement: bytes) -> set[str]:
    try:
        return {"sha256:" + one["digest"]["sha256"] for one in _json(statement)["subject"]}
    except (KeyError, TypeError):
        return set()


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return {}


def _altered(text: str) -> TerminalFailure:
    return TerminalFailure(
        Reason.PROOF_ALTERED, f"{text}; make the proof anew (docs/proofs.md), or take the genuine copy"
    )
