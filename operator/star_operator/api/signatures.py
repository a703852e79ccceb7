"""Whose signatures are required: public keys by name, inline or in a ConfigMap."""

from typing import Annotated

from pydantic import Field

from star_contracts.base import Model
from star_operator.api.common import DATA_KEY_PATTERN, DNS_LABEL, Name
from star_operator.api.meta import CEL, list_map
from star_operator.api.references import refers_to

PUBLIC_KEY_PATTERN = r"^\s*-----BEGIN PUBLIC KEY-----[A-Za-z0-9+/=\s]+-----END PUBLIC KEY-----\s*$"


class ConfigMapKeyRef(Model):
    """A key of a ConfigMap in the same namespace."""

    name: Annotated[Name, refers_to("ConfigMap")]
    """The ConfigMap's metadata.name."""
    key: str = Field(pattern=DATA_KEY_PATTERN, max_length=253)
    """Key inside the ConfigMap's data."""


class TrustedKey(Model):
    """A public key whose signatures count: ECDSA on P-256 or P-384, or Ed25519."""

    model_config = CEL(
        (
            "has(self.publicKey) != has(self.configMapKeyRef)",
            "set exactly one of publicKey (PEM) and configMapKeyRef (a ConfigMap's key that holds it)",
        ),
    ).config()

    name: str = Field(pattern=DNS_LABEL, max_length=63)
    """What messages call it."""
    public_key: str | None = Field(default=None, pattern=PUBLIC_KEY_PATTERN, max_length=4096)
    """The key in PEM (`-----BEGIN PUBLIC KEY-----`)."""
    config_map_key_ref: ConfigMapKeyRef | None = None
    """Where the key in PEM stands."""


class RequireSignatures(Model):
    """Signatures without which a checkpoint is refused."""

    model_config = CEL(
        ("self.threshold <= size(self.keys)", "threshold must not be above the number of keys"),
    ).config()

    keys: tuple[TrustedKey, ...] = Field(min_length=1, max_length=16, json_schema_extra=list_map("name"))
    """Keys that are trusted."""
    threshold: int = Field(default=1, ge=1, le=16)
    """How many of them must have signed it."""
