import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


class Door(BaseHTTPRequestHandler):
    """Lets in whoever says the password, and tells what it was told."""

    def do_GET(self) -> None:
        said = self.headers.get("Authorization", "")
        self.send_response(200 if said else 401)
        self.end_headers()
        self.wfile.write(json.dumps({"said": said}).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def door() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)


def kubeconfig_of(tmp_path: Path, url: str, user: dict[str, object]) -> Path:
    path = tmp_path / "kubeconfig"
    document = {
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(document))
    return path


def exec_plugin(tmp_path: Path) -> dict[str, object]:
    """A credential plugin whose every token is another one, and expired at once."""
    program = tmp_path / "login"
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "NUMBER", "expirationTimestamp": "2020-01-01T00:00:00Z"},
    }
    count = f"echo >> {tmp_path}/calls; n=$(wc -l < {tmp_path}/calls)"
    program.write_text(f"#!/bin/sh\n{count}\necho '{json.dumps(credential)}' | sed s/NUMBER/call-$n/\n")
    program.chmod(0o700)
    api = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": api, "command": str(program), "interactiveMode": "Never"}}


def test_an_exec_plugins_token_is_used_and_renewed_when_it_expires(tmp_path: Path, door: str) -> None:
    api = KubeApi(kubeconfig_of(tmp_path, door, exec_plugin(tmp_path)))
    first, second = (api.get("/whoami") or {}).get("said"), (api.get("/whoami") or {}).get("said")
    assert str(first).startswith("Bearer call-")
    assert str(second).startswith("Bearer call-")
    assert first != second
    api.close()


def test_token_files_and_passwords_are_used_as_well(tmp_path: Path, door: str) -> None:
    (tmp_path / "token").write_text("from-a-file")
    users: list[tuple[dict[str, object], str]] = [
        ({"token": "t"}, "Bearer t"),
        ({"tokenFile": str(tmp_path / "token")}, "Bearer from-a-file"),
        ({"username": "me", "password": "pass"}, "Basic bWU6cGFzcw=="),
    ]
    for user, expected in users:
        api = KubeApi(kubeconfig_of(tmp_path, door, user))
        assert api.get("/whoami") == {"said": expected}
        api.close()


@pytest.mark.bad_input
def test_a_user_that_is_not_let_in_is_told_what_to_do(tmp_path: Path, door: str) -> None:
    api = KubeApi(kubeconfig_of(tmp_path, door, {}))
    with pytest.raises(LocalClusterError, match="does not know the user of the kubeconfig's current context; log in"):
        api.get("/whoami")
    api.close()


def test_object_paths() -> None:
    assert object_path("Node", "n") == "/api/v1/nodes/n"
    assert object_path("EndpointSlice", "e", "ns") == "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices/e"
