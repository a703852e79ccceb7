import ssl
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from star_cli.local.errors import LocalClusterError
from star_cli.local.kubeapi import KubeApi, object_path
from star_cli.local.kubeconfig import Endpoint, render, write
from star_cli.local.pki import CertificateAuthority, Subject, signing_key

SERVER = Subject("server", hosts=("127.0.0.1", "localhost"))


def test_everything_is_reused_by_a_second_run(tmp_path: Path) -> None:
    first = CertificateAuthority(tmp_path, "ca").issue("server", SERVER).certificate.read_bytes()
    assert CertificateAuthority(tmp_path, "ca").issue("server", SERVER).certificate.read_bytes() == first
    key = signing_key(tmp_path / "tokens").key.read_bytes()
    assert signing_key(tmp_path / "tokens").key.read_bytes() == key


@pytest.mark.parametrize("file", ["ca.crt", "ca.key", "server.crt", "server.key"])
def test_what_a_crash_cut_short_is_made_again_and_fits(tmp_path: Path, file: str) -> None:
    CertificateAuthority(tmp_path, "ca").issue("server", SERVER)
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:60])
    authority = CertificateAuthority(tmp_path, "ca")
    pair = authority.issue("server", SERVER)
    ssl.create_default_context().load_cert_chain(pair.certificate, pair.key)
    ca = x509.load_pem_x509_certificate(authority.pair.certificate.read_bytes())
    x509.load_pem_x509_certificate(pair.certificate.read_bytes()).verify_directly_issued_by(ca)


@pytest.mark.parametrize("other", [Subject("server", hosts=("127.0.0.1",)), Subject("another", hosts=SERVER.hosts)])
def test_other_hosts_or_names_ask_for_another_certificate(tmp_path: Path, other: Subject) -> None:
    authority = CertificateAuthority(tmp_path, "ca")
    first = authority.issue("server", SERVER).certificate.read_bytes()
    assert authority.issue("server", other).certificate.read_bytes() != first


def test_user_and_groups_are_where_kubernetes_reads_them(tmp_path: Path) -> None:
    pair = CertificateAuthority(tmp_path, "ca").issue("admin", Subject("jane", ("system:masters", "dev")))
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    assert [a.value for a in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)] == ["jane"]
    groups = certificate.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
    assert [a.value for a in groups] == ["system:masters", "dev"]


def test_private_keys_are_for_the_owner_alone(tmp_path: Path) -> None:
    pair = CertificateAuthority(tmp_path, "ca").issue("server", SERVER)
    tokens = signing_key(tmp_path / "tokens")
    for key in (tmp_path / "ca.key", pair.key, tokens.key):
        assert key.stat().st_mode & 0o777 == 0o600


def test_kubeconfig_is_complete_in_itself(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path / "pki", "ca")
    pair = authority.issue("admin", Subject("admin"))
    endpoint = Endpoint("https://127.0.0.1:6443", authority.pair.certificate, "star-dev")
    path = write(tmp_path / "kubeconfig", render(endpoint, pair=pair, namespace="ns"))
    assert path.stat().st_mode & 0o777 == 0o600
    document = yaml.safe_load(path.read_text())
    assert document["current-context"] == "star-dev"
    assert document["contexts"][0]["context"]["namespace"] == "ns"
    pair.key.unlink()
    api = KubeApi(path)
    assert api.url == "https://127.0.0.1:6443"
    api.close()


def test_token_user_has_no_certificate(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path / "pki", "ca")
    text = render(Endpoint("https://127.0.0.1:6443", authority.pair.certificate), token="t")
    assert yaml.safe_load(text)["users"][0]["user"] == {"token": "t"}


@pytest.mark.bad_input
@pytest.mark.parametrize("content", ["", "{}", "a: [", "contexts: []\ncurrent-context: x\nclusters: []\nusers: []"])
def test_file_that_is_no_kubeconfig_is_refused_with_its_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "wrong"
    path.write_text(content)
    with pytest.raises(LocalClusterError, match="wrong has no usable current context"):
        KubeApi(path)


@pytest.mark.bad_input
def test_missing_kubeconfig_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(LocalClusterError, match="nowhere does not exist"):
        KubeApi(tmp_path / "nowhere")


def test_api_that_does_not_answer_is_not_ready_and_named_in_errors(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path / "pki", "ca")
    path = write(
        tmp_path / "kubeconfig", render(Endpoint("https://127.0.0.1:1", authority.pair.certificate), token="t")
    )
    api = KubeApi(path)
    assert not api.ready()
    with pytest.raises(LocalClusterError, match=r"https://127\.0\.0\.1:1 does not answer GET /api/v1/nodes"):
        api.get("/api/v1/nodes")
    api.close()


def test_object_paths() -> None:
    assert object_path("Node", "n") == "/api/v1/nodes/n"
    assert object_path("EndpointSlice", "e", "ns") == "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices/e"
