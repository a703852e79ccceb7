"""Configuration files of the node's components, as text; pure.

https://github.com/containerd/containerd/blob/release/1.6/docs/cri/config.md
https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/
https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/
https://www.cni.dev/plugins/current/main/bridge/
"""

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from star_cli.local import ports
from star_cli.local.network import BRIDGE, PodNetwork
from star_cli.local.paths import Layout

SANDBOX_IMAGE = "star.local/pause:1"
DNS_SERVICE_ADDRESS = "10.96.0.10"
CLUSTER_DOMAIN = "cluster.local"
REGISTRY_PORT = ports.REGISTRY_PORT

NODE_LABELS = {"star.recsys.dev/pool": "h20", "nvidia.com/gpu.product": "NVIDIA-H20"}
FAKE_CAPACITY = {"nvidia.com/gpu": "8"}


@dataclass(frozen=True)
class NodePlan:
    """All that decides the node's configuration: where, who, which addresses, ports and control group."""

    layout: Layout
    node_name: str
    network: PodNetwork
    ports: dict[str, int]
    cgroup: str

    @property
    def containerd_root(self) -> Path:
        """Folder of containerd's images, snapshots and running state."""
        return self.layout.root / "containerd"

    @property
    def programs(self) -> Path:
        """Folder of links to the programs that containerd looks up by name."""
        return self.layout.root / "bin"

    @property
    def cni_programs(self) -> Path:
        """Folder of links to the CNI plugins."""
        return self.layout.root / "cni" / "bin"

    @property
    def cni_config(self) -> Path:
        """Folder of the CNI configuration."""
        return self.layout.root / "cni" / "net.d"

    @property
    def pod_logs(self) -> Path:
        """Folder of the containers' logs."""
        return self.layout.root / "pod-logs"

    @property
    def cni_name(self) -> str:
        """Name of the CNI network; libcni's cache files begin with it."""
        return self.node_name


NODE_PORTS = ("kubelet", "kubelet-health", "kube-proxy-health", "kube-proxy-metrics", "coredns", "coredns-health")


def containerd_config(plan: NodePlan) -> str:
    """containerd's config.toml: nothing of it outside of the state folder but the shims' sockets."""
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    root = plan.containerd_root
    return f"""version = 2
root = "{root}/root"
state = "{root}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", \
"io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
address = "{plan.layout.containerd_socket}"

[plugins."io.containerd.internal.v1.opt"]
path = "{root}/opt"

[{cri}]
sandbox_image = "{SANDBOX_IMAGE}"
# a container without CAP_SYS_RESOURCE cannot lower its score, and runc dies of the attempt
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
stream_server_address = "127.0.0.1"

[{cri}.cni]
bin_dir = "{plan.cni_programs}"
conf_dir = "{plan.cni_config}"

[{cri}.containerd]
snapshotter = "overlayfs"
# a layer is on the disk once, unpacked: the registry has the packed one
discard_unpacked_layers = true

[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[{cri}.containerd.runtimes.runc.options]
SystemdCgroup = false
BinaryName = "{plan.programs}/runc"
Root = "{root}/runc"

[{cri}.registry]
config_path = "{plan.layout.config}/registries"
"""


def registry_hosts() -> str:
    """How containerd talks to the local registry: plain HTTP on loopback."""
    url = f"http://localhost:{REGISTRY_PORT}"
    return f'server = "{url}"\n\n[host."{url}"]\ncapabilities = ["pull", "resolve"]\n'


def cni_config(plan: NodePlan) -> str:
    """The pod network: a bridge with host-local addresses. No port mapping, as its rules would outlive a crash."""
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "dataDir": str(plan.layout.root / "cni" / "addresses"),
            "ranges": [[{"subnet": plan.network.cidr, "gateway": plan.network.gateway}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return json.dumps({"cniVersion": "1.0.0", "name": plan.cni_name, "plugins": [bridge]}, indent=2)


def kubelet_config(plan: NodePlan) -> str:
    """KubeletConfiguration: works on cgroup v1 and v2, beside other work on the machine, without root's swap off."""
    pki = plan.layout.pki
    document = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{plan.layout.containerd_socket}",
        "address": plan.network.gateway,
        "port": plan.ports["kubelet"],
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": plan.ports["kubelet-health"],
        "tlsCertFile": str(pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet-server.key"),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [DNS_SERVICE_ADDRESS],
        "clusterDomain": CLUSTER_DOMAIN,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": plan.cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "makeIPTablesUtilChains": False,
        "serializeImagePulls": False,
        "podLogsDir": str(plan.pod_logs),
        "volumePluginDir": str(plan.layout.root / "kubelet-volume-plugins"),
        # the disk belongs to other work as well: its fullness says little, so pods go only when it really runs out,
        # and images stay, as bringing one back takes minutes
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "150Mi",
            "nodefs.available": "1Gi",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1Gi",
            "imagefs.inodesFree": "1%",
        },
        "runtimeRequestTimeout": "15m",
        "nodeLeaseDurationSeconds": 60,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
    }
    return yaml.safe_dump(document, sort_keys=False)


def kube_proxy_config(plan: NodePlan) -> str:
    """KubeProxyConfiguration in nftables mode (KEP-3866); the kernel's conntrack limits stay as they are."""
    document = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(plan.layout.kubeconfigs / "kube-proxy.conf")},
        "hostnameOverride": plan.node_name,
        "clusterCIDR": plan.network.cidr,
        "healthzBindAddress": f"127.0.0.1:{plan.ports['kube-proxy-health']}",
        "metricsBindAddress": f"127.0.0.1:{plan.ports['kube-proxy-metrics']}",
        "nodePortAddresses": ["primary"],
        # two pods of one bridge would answer each other directly, past the translation: send the answer through us
        "nftables": {"masqueradeAll": True, "syncPeriod": "30s", "minSyncPeriod": "1s"},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    return yaml.safe_dump(document, sort_keys=False)


def corefile(plan: NodePlan) -> str:
    """CoreDNS on the bridge's address: the cluster's names from the API server, all others from this machine's DNS."""
    return f""".:{plan.ports["coredns"]} {{
  bind {plan.network.gateway}
  errors
  health 127.0.0.1:{plan.ports["coredns-health"]}
  cache 10
  kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
    kubeconfig {plan.layout.kubeconfigs / "coredns.conf"}
    pods insecure
    fallthrough in-addr.arpa ip6.arpa
    ttl 10
  }}
  forward . /etc/resolv.conf
}}
"""


def registry_config(address: str, folder: Path, *, read_only: bool) -> str:
    """Configuration of the image registry (https://distribution.github.io/distribution/about/configuration/)."""
    storage: dict[str, object] = {
        "filesystem": {"rootdirectory": str(folder)},
        "delete": {"enabled": not read_only},
        "maintenance": {"uploadpurging": {"enabled": False}, "readonly": {"enabled": read_only}},
    }
    document = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": storage,
        "http": {"addr": address},
    }
    return yaml.safe_dump(document, sort_keys=False)
