"""etcd, kube-apiserver, and where asked the controller-manager and scheduler, as processes of this machine.

Usable alone, as the integration tests do: a real API server in seconds, without root. Its data live in one folder; the
processes outlive this one and are found again by `start`, which repairs what died.

Flags: https://kubernetes.io/docs/reference/command-line-tools-reference/
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from star_cli.local import ports
from star_cli.local.binaries import Binaries
from star_cli.local.errors import LocalClusterError
from star_cli.local.files import write_atomic
from star_cli.local.kubeapi import KubeApi
from star_cli.local.kubeconfig import Endpoint, render, write
from star_cli.local.paths import Layout
from star_cli.local.pki import CertificateAuthority, KeyPair, Subject, signing_key
from star_cli.local.processes import Processes, ProcessSpec
from star_cli.local.versions import CONTROL_PLANE, CONTROLLERS

SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
_LOOPBACK = "127.0.0.1"
_PORT_NAMES = ("etcd", "etcd-peer", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
_READY_SECONDS = 90.0  # 5 s on an idle machine; a test machine may be compiling meanwhile
_PORT_TRIES = 3


@dataclass(frozen=True)
class ControlPlaneSettings:
    """How the control plane runs.

    address: the IPv4 address the API server listens on and advertises; loopback serves tests, pods need one they reach.
    controllers: also run controller-manager and scheduler.
    cgroups: folders of a cgroup that every process joins, so that nothing started here can be missed at the end.
    ends_with_parent: the processes end with the thread that started them, even where it is killed.
    audit_user: whose requests are written down in `ControlPlane.audit_log`, a line of JSON each; nobody's without one.
    """

    address: str = _LOOPBACK
    controllers: bool = False
    name: str = "star"
    cgroups: tuple[Path, ...] = ()
    ends_with_parent: bool = False
    audit_user: str = ""


@dataclass(frozen=True)
class _Certificates:
    """Everything the components prove themselves with."""

    cluster: CertificateAuthority
    etcd_authority: CertificateAuthority
    etcd_server: KeyPair
    etcd_client: KeyPair
    api_server: KeyPair
    kubelet_client: KeyPair
    tokens: KeyPair


@dataclass
class ControlPlane:
    """A control plane whose files are in `layout`; nothing runs until `start`."""

    layout: Layout
    settings: ControlPlaneSettings = field(default_factory=ControlPlaneSettings)
    binaries: Binaries = field(default_factory=Binaries)

    def __post_init__(self) -> None:
        self.processes = Processes(self.layout.records, self.layout.logs)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig (group system:masters)."""
        return self.layout.kubeconfig

    @property
    def audit_log(self) -> Path:
        """What `settings.audit_user` has asked the API server for (audit.k8s.io/v1 Event)."""
        return audit_log(self.layout)

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the processes, in the order of their start."""
        return CONTROL_PLANE + (CONTROLLERS if self.settings.controllers else ())

    def start(self) -> None:
        """Have every component running and ready: starts, or repairs, or leaves alone what is well.

        Raises:
            LocalClusterError: a component does not come up; the end of its log is in the message.
        """
        paths = self.binaries.ensure_all(self.components)
        for attempt in range(1, _PORT_TRIES + 1):
            try:
                self._start(paths)
                return
            except LocalClusterError as error:
                if "address already in use" not in str(error) or attempt == _PORT_TRIES:
                    raise
                self.stop()  # a port was taken between our choice and the server's bind: choose others
                self._ports_file.unlink(missing_ok=True)

    def stop(self) -> None:
        """End every component; the data stay, and a later `start` goes on with them."""
        for name in reversed(CONTROL_PLANE + CONTROLLERS):
            self.processes.stop(name)

    def api(self) -> KubeApi:
        """A client with the administrator's rights."""
        return KubeApi(self.kubeconfig)

    def user_kubeconfig(self, user: str, groups: tuple[str, ...] = ()) -> Path:
        """Kubeconfig of a user who proves himself with a certificate; what he may do is up to RBAC."""
        name = "user-" + "-".join([user, *groups]).replace(":", ".").replace("/", ".")
        pair = self._authority().issue(name, Subject(user, groups))
        path = self.layout.kubeconfigs / f"{name}.conf"
        return write(path, render(self._endpoint(), pair=pair))

    def service_account_kubeconfig(self, namespace: str, name: str, seconds: int = 3600) -> Path:
        """Kubeconfig of an existing ServiceAccount, with a token that is valid for `seconds` (at least 600)."""
        api = self.api()
        try:
            token = api.service_account_token(namespace, name, seconds)
        finally:
            api.close()
        path = self.layout.kubeconfigs / f"sa-{namespace}-{name}.conf"
        content = render(self._endpoint(), token=token, namespace=namespace)
        return write(path, content)

    def component_kubeconfig(self, name: str, subject: Subject) -> Path:
        """Kubeconfig of a component of the cluster, which proves itself with a certificate."""
        pair = self._authority().issue(name, subject)
        return write(self.layout.kubeconfigs / f"{name}.conf", render(self._endpoint(), pair=pair))

    def server_certificate(self, name: str, hosts: tuple[str, ...]) -> KeyPair:
        """A certificate for a server of the cluster that answers at `hosts`."""
        return self._authority().issue(name, Subject(hosts[-1], hosts=hosts))

    def ports(self) -> dict[str, int]:
        """The ports of the components: chosen at the first start, the same ever after."""
        try:
            known = json.loads(self._ports_file.read_text())
            if set(known) == set(_PORT_NAMES):
                return {str(name): int(port) for name, port in known.items()}
        except (FileNotFoundError, ValueError):
            pass
        chosen = ports.pick(_PORT_NAMES, self.settings.address)
        write_atomic(self._ports_file, json.dumps(chosen))
        return chosen

    @property
    def _ports_file(self) -> Path:
        return self.layout.root / "control-plane-ports.json"

    def _endpoint(self) -> Endpoint:
        url = f"https://{self.settings.address}:{self.ports()['kube-apiserver']}"
        return Endpoint(url, self._authority().pair.certificate, self.settings.name)

    def _authority(self) -> CertificateAuthority:
        return CertificateAuthority(self.layout.pki, "star-local-ca")

    def _start(self, paths: dict[str, Path]) -> None:
        self.layout.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        certificates = self._certificates()
        admin = certificates.cluster.issue("admin", Subject("star-admin", ("system:masters",)))
        write(self.kubeconfig, render(self._endpoint(), pair=admin))
        for name in CONTROLLERS if self.settings.controllers else ():
            self.component_kubeconfig(name, Subject(f"system:{name}"))
        if self.settings.audit_user:
            write_atomic(_audit_policy(self.layout), json.dumps(_audits(self.settings.audit_user)))
        specs = control_plane_specs(self.layout, self.settings, self.ports(), paths)
        self.processes.ensure(specs["etcd"])
        self.processes.ensure(specs["kube-apiserver"])  # it waits for etcd by itself
        api = self.api()
        try:
            self.processes.wait_ready("kube-apiserver", api.ready, _READY_SECONDS)
        finally:
            api.close()
        for name in CONTROLLERS if self.settings.controllers else ():
            self.processes.ensure(specs[name])

    def _certificates(self) -> _Certificates:
        cluster = self._authority()
        etcd = CertificateAuthority(self.layout.pki / "etcd", "star-local-etcd-ca")
        local = (_LOOPBACK, "localhost")
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
        hosts = tuple(dict.fromkeys((*names, *local, self.settings.address, API_SERVICE_ADDRESS)))
        return _Certificates(
            cluster=cluster,
            etcd_authority=etcd,
            etcd_server=etcd.issue("server", Subject("etcd", hosts=local)),
            etcd_client=etcd.issue("client", Subject("kube-apiserver")),
            api_server=cluster.issue("kube-apiserver", Subject("kube-apiserver", hosts=hosts)),
            kubelet_client=cluster.issue("kubelet-client", Subject("kube-apiserver-kubelet", ("system:masters",))),
            tokens=signing_key(self.layout.pki / "service-accounts"),
        )


def control_plane_specs(
    layout: Layout, settings: ControlPlaneSettings, port: dict[str, int], paths: dict[str, Path]
) -> dict[str, ProcessSpec]:
    """The processes of a control plane, by name; the certificates and kubeconfigs they read exist already."""
    arguments = {"etcd": _etcd(layout, port), "kube-apiserver": _api_server(layout, settings, port)}
    for name in CONTROLLERS if settings.controllers else ():
        arguments[name] = _controller(name, layout, port)
    return {
        name: ProcessSpec(
            name,
            (str(paths[name]), *_flags(flags)),
            # a lower heap growth costs little processor time here and saves a third of the memory
            env={"GOGC": "50"},
            files=_read_at_start(name, layout),
            cgroups=settings.cgroups,
            ends_with_parent=settings.ends_with_parent,
        )
        for name, flags in arguments.items()
    }


def _read_at_start(name: str, layout: Layout) -> tuple[Path, ...]:
    if name in CONTROLLERS:
        return (layout.kubeconfigs / f"{name}.conf",)
    return (
        (layout.pki / "etcd" / "ca.crt",) if name == "etcd" else (layout.pki / "ca.crt", layout.pki / "etcd" / "ca.crt")
    )


def _flags(flags: dict[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]


def _etcd(layout: Layout, port: dict[str, int]) -> dict[str, str]:
    """https://etcd.io/docs/v3.6/op-guide/configuration/; clients prove themselves with a certificate."""
    client = f"https://{_LOOPBACK}:{port['etcd']}"
    peer = f"http://{_LOOPBACK}:{port['etcd-peer']}"
    pki = layout.pki / "etcd"
    return {
        "name": "star",
        "data-dir": str(layout.root / "etcd"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"star={peer}",
        "client-cert-auth": "true",
        "trusted-ca-file": str(pki / "ca.crt"),
        "cert-file": str(pki / "server.crt"),
        "key-file": str(pki / "server.key"),
        # safe against the end of the process, not against a power cut: the cluster is disposable
        "unsafe-no-fsync": "true",
        "quota-backend-bytes": str(4 * 2**30),
        "auto-compaction-retention": "10m",
        "log-level": "warn",
    }


def _api_server(layout: Layout, settings: ControlPlaneSettings, port: dict[str, int]) -> dict[str, str]:
    pki = layout.pki
    loopback = settings.address == _LOOPBACK
    flags = {
        "bind-address": settings.address,
        "advertise-address": settings.address,
        "secure-port": str(port["kube-apiserver"]),
        "etcd-servers": f"https://{_LOOPBACK}:{port['etcd']}",
        "etcd-cafile": str(pki / "etcd" / "ca.crt"),
        "etcd-certfile": str(pki / "etcd" / "client.crt"),
        "etcd-keyfile": str(pki / "etcd" / "client.key"),
        "tls-cert-file": str(pki / "kube-apiserver.crt"),
        "tls-private-key-file": str(pki / "kube-apiserver.key"),
        "client-ca-file": str(pki / "ca.crt"),
        "anonymous-auth": "false",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "service-cluster-ip-range": SERVICE_CIDR,
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": str(pki / "service-accounts.pub"),
        "service-account-signing-key-file": str(pki / "service-accounts.key"),
        "kubelet-client-certificate": str(pki / "kubelet-client.crt"),
        "kubelet-client-key": str(pki / "kubelet-client.key"),
        "kubelet-certificate-authority": str(pki / "ca.crt"),
        # the node's name is in no DNS: without this `kubectl logs` looks it up
        "kubelet-preferred-address-types": "InternalIP",
        "allow-privileged": "true",
        "profiling": "false",
    }
    if loopback:  # an EndpointSlice may not hold a loopback address
        flags["endpoint-reconciler-type"] = "none"
    if settings.audit_user:
        flags |= {"audit-policy-file": str(_audit_policy(layout)), "audit-log-path": str(audit_log(layout))}
    if not settings.controllers:  # nobody makes the default ServiceAccounts that this plugin waits for
        flags["disable-admission-plugins"] = "ServiceAccount"
    return flags


def audit_log(layout: Layout) -> Path:
    """Return where requests are written down."""
    return layout.root / "audit.jsonl"


def _audit_policy(layout: Layout) -> Path:
    return layout.root / "audit-policy.json"


def _audits(user: str) -> dict[str, object]:
    """Return a policy that writes down who asked for what, and nothing of what was said (audit.k8s.io/v1 Policy)."""
    rules = [{"level": "Metadata", "users": [user]}, {"level": "None"}]
    # a watch is written down when it begins, all else when it is answered
    return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}


def _controller(name: str, layout: Layout, port: dict[str, int]) -> dict[str, str]:
    config = str(layout.kubeconfigs / f"{name}.conf")
    flags = {
        "kubeconfig": config,
        "authentication-kubeconfig": config,
        "authorization-kubeconfig": config,
        "bind-address": _LOOPBACK,
        "secure-port": str(port[name]),
        "leader-elect": "false",
        "profiling": "false",
        "kube-api-qps": "200",
        "kube-api-burst": "400",
    }
    if name == "kube-controller-manager":
        flags |= {
            "root-ca-file": str(layout.pki / "ca.crt"),
            "service-account-private-key-file": str(layout.pki / "service-accounts.key"),
            "cluster-signing-cert-file": str(layout.pki / "ca.crt"),
            "cluster-signing-key-file": str(layout.pki / "ca.key"),
            "use-service-account-credentials": "true",
        }
    return flags
