"""Signatures: a DSSE envelope over an in-toto statement, in a sigstore bundle (v0.3) that names its key by a hint.

What is signed is DSSE's pre-authentication encoding (secure-systems-lab/dsse, protocol.md). The bundle is the JSON form
of `dev.sigstore.bundle.v1.Bundle` (sigstore/protobuf-specs) with a public key in place of a certificate and without an
entry of a transparency log. Other readers than ours have not been tried on it, but for its parts.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from star_contracts.base import canonical_json
from star_jobs.proofs.keys import Private, Verifier, key_id, sign

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


class NoBundle(Exception):
    """It is no bundle of this form; the text says why."""


@dataclass(frozen=True)
class Signed:
    """What a bundle holds."""

    statement: bytes
    """The statement that was signed."""
    signatures: tuple[bytes, ...]
    hint: str
    """Digest of the key that made it, as the bundle says; not to be believed."""

    def signers(self, keys: Sequence[Verifier]) -> set[str]:
        """Return the names of the keys that signed it."""
        data = encoded(self.statement)
        return {key.name for key in keys if any(key.verifies(one, data) for one in self.signatures)}


def encoded(statement: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding of a statement."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(statement), statement)


def signed(statement: bytes, key: Private) -> bytes:
    """Return the bundle of a statement signed with a key."""
    hint = key_id(key.public_key())
    envelope = {
        "payload": _text(statement),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": _text(sign(key, encoded(statement))), "keyid": ""}],
    }
    material = {"publicKey": {"hint": hint}, "tlogEntries": []}
    return canonical_json({"mediaType": MEDIA_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope})


def read(data: bytes) -> Signed:
    """Read a bundle. Raises NoBundle."""
    try:
        found: Any = json.loads(data)
        envelope = found["dsseEnvelope"]
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise NoBundle(f"its payload is of type {envelope['payloadType']!r} and not {PAYLOAD_TYPE}")
        statement = base64.b64decode(envelope["payload"], validate=True)
        signatures = tuple(base64.b64decode(one["sig"], validate=True) for one in envelope["signatures"])
        hint = found.get("verificationMaterial", {}).get("publicKey", {}).get("hint") or "no hint"
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise NoBundle(
            f"it cannot be read as a sigstore bundle with a DSSE envelope ({type(error).__name__})"
        ) from error
    return Signed(statement, signatures, str(hint)[:128])


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
