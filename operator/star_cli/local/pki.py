"""Certificates of the local cluster: made here, kept in its state folder, never in any trust store.

Everything is created once and reused: a second `up` keeps every kubeconfig valid. A key or certificate cut short by a
crash does not load, and is made again.
"""

import datetime
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from star_cli.local.files import write_atomic

_CA_DAYS = 3650
_LEAF_DAYS = 3650  # a local cluster that outlives its certificates cannot be repaired by `up`
_RENEW_DAYS = 30


@dataclass(frozen=True)
class KeyPair:
    """Paths of a certificate (PEM) and its private key (PEM, mode 0600)."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Subject:
    """Whom a certificate names: Kubernetes reads user and groups from it.

    https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates
    `hosts` are the DNS names and IP addresses a server answers at; without any the certificate is for clients only.
    """

    user: str
    groups: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


class CertificateAuthority:
    """One certificate authority in a folder of its own: `ca.crt`, `ca.key`, and what it issued."""

    def __init__(self, folder: Path, common_name: str) -> None:
        self.folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        self.pair = KeyPair(folder / "ca.crt", folder / "ca.key")
        loaded = _load(self.pair)
        if loaded is None:
            loaded = self._create()
        self._certificate, self._key = loaded

    def issue(self, name: str, subject: Subject) -> KeyPair:
        """A certificate for `subject` in files called `name`; the present one where it still fits."""
        pair = KeyPair(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        loaded = _load(pair)
        if loaded is not None and self._fits(loaded[0], subject):
            return pair
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in subject.groups]
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, subject.user))
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if subject.hosts:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = (
            _builder(x509.Name(attributes), self._name, key.public_key(), _LEAF_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if subject.hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(_names(subject.hosts)), critical=False)
        _store(pair, builder.sign(self._key, hashes.SHA256()), key)
        return pair

    def _create(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            _builder(self._name, self._name, key.public_key(), _CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        _store(self.pair, certificate, key)
        return certificate, key

    def _fits(self, certificate: x509.Certificate, subject: Subject) -> bool:
        """Whether the certificate is ours, names the subject and hosts, and is not about to expire."""
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except Exception:  # any failure to verify asks for the same: a new certificate
            return False
        names = {str(attribute.value) for attribute in certificate.subject}
        if names != {subject.user, *subject.groups}:
            return False
        hosts: set[str] = set()
        if subject.hosts:
            try:
                extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            except x509.ExtensionNotFound:
                return False
            hosts = {str(name.value) for name in extension.value}
        return hosts == set(subject.hosts)


def signing_key(path: Path) -> KeyPair:
    """An EC key with which the API server signs ServiceAccount tokens; `certificate` is its public key in PEM."""
    pair = KeyPair(path.with_suffix(".pub"), path.with_suffix(".key"))
    key = _load_key(pair.key)
    if key is None:
        key = ec.generate_private_key(ec.SECP256R1())
        write_atomic(pair.key, _pem(key), mode=0o600)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_atomic(pair.certificate, public)
    return pair


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(int.from_bytes(secrets.token_bytes(16)) >> 1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _store(pair: KeyPair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    write_atomic(pair.key, _pem(key), mode=0o600)
    write_atomic(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM))


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (FileNotFoundError, ValueError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _load(pair: KeyPair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
    """The pair, or None where it is missing, damaged, mismatched (a crash between the two writes) or near its end."""
    key = _load_key(pair.key)
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if key is None or certificate.public_key() != key.public_key():
        return None
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=_RENEW_DAYS)
    return (certificate, key) if certificate.not_valid_after_utc > soon else None
