"""Keys that proofs are signed and checked with: ECDSA on P-256 or P-384, and Ed25519, in PEM.

A key is known by the sha256 of its public half (SubjectPublicKeyInfo, DER), which is what `cosign` and `sha256sum` of
`openssl pkey -pubout -outform DER` say of it, too.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from star_contracts.errors import Reason
from star_contracts.proofs import SIGNING_KEY, SIGNING_PASSWORD, PublicKey
from star_jobs.errors import TerminalFailure

Private = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
Public = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
_HASHES = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384()}
WANTED = "one of ECDSA on P-256 or P-384, or Ed25519"


@dataclass(frozen=True)
class Verifier:
    """A public key by its name."""

    name: str
    key: Public

    @property
    def id(self) -> str:
        """Return the key's digest."""
        return key_id(self.key)

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Say whether the signature of these bytes was made with this key's private half."""
        try:
            if isinstance(self.key, ed25519.Ed25519PublicKey):
                self.key.verify(signature, data)
            else:
                self.key.verify(signature, data, ec.ECDSA(_HASHES[self.key.curve.name]))
        except InvalidSignature:
            return False
        return True


def verifier(key: PublicKey) -> Verifier:
    """Read a public key. Raises TerminalFailure(InvalidKey) that names it."""
    where = f"requireSignatures.keys: {key.name}"
    if "PRIVATE KEY" in key.pem:
        raise _invalid(f"{where} is a private key; give its public half (`openssl pkey -pubout`), and take a new pair")
    try:
        found = serialization.load_pem_public_key(key.pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _invalid(f"{where} is no public key in PEM; give {WANTED}") from error
    return Verifier(key.name, _supported(found, where))


def signing_key(path: Path, password: Path | None) -> Private | None:
    """Read the mounted private key; None where there is none.

    Raises TerminalFailure(InvalidKey), which quotes nothing of it.
    """
    if not path.is_file():
        return None
    secret = password.read_bytes().rstrip(b"\r\n") if password is not None and password.is_file() else None
    where = f"{SIGNING_KEY} in the signing Secret"
    try:
        found = serialization.load_pem_private_key(path.read_bytes(), secret or None)
    except TypeError:
        said = "encrypted, and there is no" if secret is None else "not encrypted, and there is a"
        raise _invalid(f"{where} is {said} {SIGNING_PASSWORD}; correct one of them") from None
    except (ValueError, UnsupportedAlgorithm):
        of_cosign = "; write cosign's own keys as PKCS #8 in PEM" if b"SIGSTORE" in path.read_bytes() else ""
        text = f"{where} cannot be read: it is no private key in PEM, or {SIGNING_PASSWORD} is not its password"
        raise _invalid(f"{text}; give {WANTED}{of_cosign}") from None
    if not isinstance(found, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise _invalid(f"{where} is of a kind that is not taken; give {WANTED}")
    _supported(found.public_key(), where)
    return found


def sign(key: Private, data: bytes) -> bytes:
    """Sign bytes: DER for ECDSA, 64 bytes for Ed25519."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    return key.sign(data, ec.ECDSA(_HASHES[key.curve.name]))


def key_id(key: Public) -> str:
    """Return `sha256:<64 hex>` of a public key."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(der).hexdigest()


def _supported(key: object, where: str) -> Public:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _HASHES:
        return key
    raise _invalid(f"{where} is of a kind that is not taken; give {WANTED}")


def _invalid(text: str) -> TerminalFailure:
    return TerminalFailure(Reason.INVALID_KEY, text)
