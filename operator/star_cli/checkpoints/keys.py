"""A pair of keys to sign proofs with, and to check them."""

import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from star_cli.errors import StarctlError
from star_contracts.proofs import SIGNING_KEY

PUBLIC = "signing.pub"


def write_pair(folder: Path) -> tuple[Path, Path]:
    """Write an ECDSA pair on P-256 in PEM, the private half readable by its owner alone; return both files.

    Raises StarctlError where there is a pair already.
    """
    private, public = folder / SIGNING_KEY, folder / PUBLIC
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            target.write(secret)
    except FileExistsError as error:
        raise StarctlError(f"{private} is there already, and is not written over; choose another folder") from error
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public
