import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from star_cli.local import nodeconfig
from star_cli.local.cgroups import hierarchies
from star_cli.local.cleanup import dead_sockets, mounts_below, shim_sockets
from star_cli.local.controlplane import ControlPlaneSettings, control_plane_specs
from star_cli.local.errors import LocalClusterError
from star_cli.local.manifests import cluster_manifests, host_service, store_secret
from star_cli.local.network import BRIDGE, PodNetwork, choose_network, masquerade_rules
from star_cli.local.nodeconfig import NODE_PORTS, NodePlan
from star_cli.local.oci import single_program_image
from star_cli.local.paths import Layout

PORTS = {name: 20000 + index for index, name in enumerate(NODE_PORTS)}
PLAN = NodePlan(Layout(Path("/s/dev")), "star-dev", PodNetwork("10.244.0.0/24"), PORTS, "/star-dev-1")


def test_containerd_keeps_everything_in_the_state_folder() -> None:
    config = tomllib.loads(nodeconfig.containerd_config(PLAN))
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert config["root"].startswith("/s/dev/")
    assert config["state"].startswith("/s/dev/")
    assert config["grpc"]["address"] == "/s/dev/containerd.sock"
    assert cri["netns_mounts_under_state_dir"]
    assert cri["restrict_oom_score_adj"], "or no sandbox starts where the capability is missing"
    assert cri["containerd"]["discard_unpacked_layers"]
    assert cri["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is False
    assert cri["registry"]["config_path"] == "/s/dev/config/registries"


def test_kubelet_runs_on_cgroup_v1_and_beside_other_work() -> None:
    config = yaml.safe_load(nodeconfig.kubelet_config(PLAN))
    assert config["failCgroupV1"] is False
    assert config["cgroupDriver"] == "cgroupfs"
    assert config["cgroupRoot"] == "/star-dev-1"
    assert config["enforceNodeAllocatable"] == []
    assert config["imageGCHighThresholdPercent"] == 100
    assert config["evictionHard"]["nodefs.available"] == "1Gi"
    assert config["address"] == "10.244.0.1", "pods reach it, the outside does not"
    assert config["authentication"]["anonymous"]["enabled"] is False


def test_kube_proxy_leaves_the_kernels_conntrack_limits() -> None:
    config = yaml.safe_load(nodeconfig.kube_proxy_config(PLAN))
    assert config["mode"] == "nftables"
    assert config["nftables"]["masqueradeAll"]
    assert config["conntrack"]["maxPerCore"] == 0


def test_pods_get_addresses_of_the_bridge() -> None:
    plugin = json.loads(nodeconfig.cni_config(PLAN))["plugins"][0]
    assert plugin["bridge"] == BRIDGE
    assert plugin["ipam"]["ranges"] == [[{"subnet": "10.244.0.0/24", "gateway": "10.244.0.1"}]]
    assert plugin["ipMasq"] is False, "its rules would outlive a crash; ours are one table"


def test_corefile_binds_the_bridge() -> None:
    text = nodeconfig.corefile(PLAN)
    assert text.startswith(f".:{PORTS['coredns']} {{\n  bind 10.244.0.1\n")


@pytest.mark.parametrize("read_only", [True, False])
def test_registry_for_pods_is_read_only(read_only: bool) -> None:
    config = yaml.safe_load(nodeconfig.registry_config("127.0.0.1:5000", Path("/c"), read_only=read_only))
    assert config["storage"]["maintenance"]["readonly"]["enabled"] is read_only
    assert config["http"]["addr"] == "127.0.0.1:5000"


def test_network_overlaps_no_route_of_the_machine() -> None:
    routes: list[dict[str, object]] = [{"dst": "default"}, {"dst": "10.244.0.0/16"}, {"dst": "10.245.0.7"}]
    assert choose_network(routes).cidr == "10.246.0.0/24"
    assert choose_network([]).gateway == "10.244.0.1"
    assert choose_network([]).gateway_with_prefix == "10.244.0.1/24"


@pytest.mark.bad_input
def test_machine_that_routes_every_candidate_is_told_so() -> None:
    with pytest.raises(LocalClusterError, match=r"routes all of 10\.244\.0\.0/24 to 10\.254"):
        choose_network([{"dst": "10.0.0.0/8"}])


def test_masquerade_rules_replace_the_whole_table() -> None:
    lines = masquerade_rules(PodNetwork("10.244.0.0/24")).splitlines()
    assert lines[:3] == ["table ip star_masquerade", "delete table ip star_masquerade", "table ip star_masquerade {"]


def test_control_groups_of_both_versions_are_found_once() -> None:
    mounts = """tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0
cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0
cgroup /somewhere/pids cgroup rw,pids 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""
    assert [str(path) for path in hierarchies(mounts)] == [
        "/sys/fs/cgroup/cpu",
        "/sys/fs/cgroup/pids",
        "/sys/fs/cgroup/unified",
    ]


def test_mounts_below_are_innermost_first_and_blanks_are_read() -> None:
    mountinfo = """22 1 0:1 / /s/devil rw - ext4 x rw
23 1 0:1 / /s/dev/a\\040b rw - tmpfs x rw
24 23 0:1 / /s/dev/a\\040b/c rw - tmpfs x rw
"""
    assert mounts_below(Path("/s/dev"), mountinfo) == [Path("/s/dev/a b/c"), Path("/s/dev/a b")]


def test_only_shim_sockets_where_shims_put_them_are_ours_to_remove(tmp_path: Path) -> None:
    for name, address in {"a": "unix:///run/containerd/s/0f", "b": "unix:///etc/passwd"}.items():
        folder = tmp_path / "io.containerd.runtime.v2.task" / "k8s.io" / name
        folder.mkdir(parents=True)
        (folder / "address").write_text(address)
    assert shim_sockets(tmp_path) == [Path("/run/containerd/s/0f")]


def test_socket_that_a_process_has_is_not_dead() -> None:
    bound = """Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/containerd/s/alive
"""
    sockets = [Path("/run/containerd/s/alive"), Path("/run/containerd/s/dead")]
    assert dead_sockets(sockets, bound) == [Path("/run/containerd/s/dead")]


def test_image_is_reproducible_and_names_itself() -> None:
    image = single_program_image(b"program", "pause", "star.local/pause:1")
    assert image == single_program_image(b"program", "pause", "star.local/pause:1")
    assert b"star.local/pause:1" in image


def test_host_services_are_found_through_their_slices() -> None:
    service, endpoints = host_service("s3", "ns", "10.244.0.1", {"http": (80, 7070)})
    assert "selector" not in service["spec"]
    assert service["spec"]["ports"] == [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 7070}]
    assert endpoints["metadata"]["labels"]["kubernetes.io/service-name"] == "s3"
    assert endpoints["ports"] == [{"name": "http", "protocol": "TCP", "port": 7070}]


def test_dns_is_there_for_udp_and_tcp_at_the_address_the_kubelet_gives_pods() -> None:
    services = {m["metadata"]["name"]: m for m in cluster_manifests("10.244.0.1", 2053) if m["kind"] == "Service"}
    dns = services["kube-dns"]["spec"]
    assert dns["clusterIP"] == yaml.safe_load(nodeconfig.kubelet_config(PLAN))["clusterDNS"][0]
    assert [port["protocol"] for port in dns["ports"]] == ["UDP", "TCP"]
    assert set(services) == {"kube-dns", "s3", "registry"}


def test_store_secret_has_the_keys_that_pods_expect() -> None:
    assert store_secret("ns", "a", "b")["stringData"] == {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


def specs(settings: ControlPlaneSettings, tmp_path: Path) -> dict[str, Any]:
    layout = Layout(tmp_path)
    names = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ports = dict.fromkeys((*names, "etcd-peer"), 1)
    return control_plane_specs(layout, settings, ports, {name: Path("/bin") / name for name in names})


def test_api_server_proves_and_asks_for_proof(tmp_path: Path) -> None:
    arguments = specs(ControlPlaneSettings(), tmp_path)["kube-apiserver"].argv
    assert "--authorization-mode=Node,RBAC" in arguments
    assert "--anonymous-auth=false" in arguments
    assert "--kubelet-preferred-address-types=InternalIP" in arguments
    assert not any("0.0.0.0" in argument for argument in arguments)


def test_only_a_control_plane_without_controllers_drops_the_service_account_plugin(tmp_path: Path) -> None:
    alone = specs(ControlPlaneSettings(), tmp_path)
    full = specs(ControlPlaneSettings("10.244.0.1", controllers=True), tmp_path)
    plugin = "--disable-admission-plugins=ServiceAccount"
    assert plugin in alone["kube-apiserver"].argv
    assert plugin not in full["kube-apiserver"].argv
    assert set(alone) == {"etcd", "kube-apiserver"}
    assert "--endpoint-reconciler-type=none" not in full["kube-apiserver"].argv
