"""The pod network of the one node: a bridge that also is the node's address, and address translation to the outside.

Everything of the cluster listens on the bridge's address: pods reach it, nothing outside of this machine does.
"""

import ipaddress
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from star_cli.local.errors import LocalClusterError

BRIDGE = "star0"
_MASQUERADE_TABLE = "star_masquerade"
_PROXY_TABLES = ("ip kube-proxy", "ip6 kube-proxy")
_CANDIDATES = tuple(f"10.{second}.0.0/24" for second in range(244, 255))

# what the kubelet, the bridge plugin and this module set on the machine; `down` puts the old values back
SYSCTLS = (
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


@dataclass(frozen=True)
class PodNetwork:
    """The pods' addresses; the first of them is the bridge's, and so the node's."""

    cidr: str

    @property
    def gateway(self) -> str:
        """The address of the bridge."""
        return str(next(ipaddress.ip_network(self.cidr).hosts()))

    @property
    def gateway_with_prefix(self) -> str:
        """The same as `ip address add` wants it."""
        return f"{self.gateway}/{ipaddress.ip_network(self.cidr).prefixlen}"


def choose_network(routes: list[dict[str, object]]) -> PodNetwork:
    """The first candidate that overlaps no route of this machine (as `ip -json route` prints them).

    Raises:
        LocalClusterError: every candidate overlaps one.
    """
    taken = []
    for route in routes:
        try:
            taken.append(ipaddress.ip_network(str(route.get("dst", "")), strict=False))
        except ValueError:  # "default", which every network overlaps
            continue
    for candidate in _CANDIDATES:
        network = ipaddress.ip_network(candidate)
        if not any(network.overlaps(other) for other in taken):
            return PodNetwork(candidate)
    raise LocalClusterError(f"this machine routes all of {_CANDIDATES[0]} to {_CANDIDATES[-1]}; free one of them")


class HostNetwork:
    """The machine's network, changed through `ip` and `nft`."""

    def __init__(self, ip: Path, nft: Path) -> None:
        self._ip = ip
        self._nft = nft

    def routes(self) -> list[dict[str, object]]:
        """The machine's IPv4 routes."""
        return list(json.loads(_run([str(self._ip), "-json", "-4", "route", "show"])))

    def owner(self) -> str | None:
        """The state folder of the cluster that has the bridge, or None where there is no bridge."""
        done = subprocess.run(
            [str(self._ip), "-json", "link", "show", "dev", BRIDGE], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            return None
        return str(json.loads(done.stdout)[0].get("ifalias", ""))

    def refuse_nodes(self) -> None:
        """Refuse a machine that is a node already: two kube-proxies would overwrite each other's tables.

        Raises:
            LocalClusterError: a kube-proxy has its tables here.
        """
        command = [str(self._nft), "list", "table", *_PROXY_TABLES[0].split()]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            raise LocalClusterError("this machine is a node of another cluster (kube-proxy's tables are there)")

    def refuse_others(self, owner: str) -> None:
        """Refuse a machine whose pod network is another cluster's than that of the state folder `owner`.

        Raises:
            LocalClusterError: it is; its state folder is in the message.
        """
        present = self.owner()
        if present is not None and present not in ("", owner):  # an unnamed one was left by a crash between two steps
            raise LocalClusterError(
                f"the cluster in {present} has this machine's pod network ({BRIDGE}); "
                "only one embedded cluster runs at a time: take that one down first"
            )

    def up(self, network: PodNetwork, owner: str) -> bool:
        """Have the bridge with its address, and address translation for what pods send to the outside.

        Returns whether the bridge is new, so that no pod is connected to it.
        """
        self.refuse_others(owner)
        present = self.owner()
        if present is None:
            _run([str(self._ip), "link", "add", BRIDGE, "type", "bridge"])
        _run([str(self._ip), "link", "set", "dev", BRIDGE, "alias", owner])
        _run([str(self._ip), "address", "replace", network.gateway_with_prefix, "dev", BRIDGE])
        _run([str(self._ip), "link", "set", "dev", BRIDGE, "up"])
        _run([str(self._nft), "-f", "-"], stdin=masquerade_rules(network))
        return present is None

    def down(self, owner: str) -> None:
        """Remove the bridge and the tables, kube-proxy's too, where they are the cluster's of `owner`."""
        present = self.owner()
        if present is not None and present not in ("", owner):
            return
        for table in (f"ip {_MASQUERADE_TABLE}", *_PROXY_TABLES):
            # declaring it first makes the deletion succeed where there is no such table
            _run([str(self._nft), "-f", "-"], stdin=f"table {table}\ndelete table {table}\n")
        if present is not None:
            self._disconnect_pods()
            _run([str(self._ip), "link", "delete", BRIDGE])

    def _disconnect_pods(self) -> None:
        """Remove the pods' links to the bridge.

        They would go with the pods' network namespaces. But a connection that was cut off in mid-flight keeps its
        namespace for minutes after the last process of the pod.
        """
        links = json.loads(_run([str(self._ip), "-json", "link", "show", "master", BRIDGE]) or "[]")
        for link in links:
            delete = [str(self._ip), "link", "delete", str(link["ifname"])]
            subprocess.run(delete, capture_output=True, check=False)  # it may have gone by itself meanwhile


def masquerade_rules(network: PodNetwork) -> str:
    """An nftables script that makes the translation table what it should be, in one transaction."""
    table = f"ip {_MASQUERADE_TABLE}"
    return f"""table {table}
delete table {table}
table {table} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {network.cidr} ip daddr != {network.cidr} masquerade
  }}
}}
"""


def read_sysctls() -> dict[str, str]:
    """The present values of what a node changes."""
    return {name: _sysctl(name).read_text().strip() for name in SYSCTLS if _sysctl(name).exists()}


def write_sysctls(values: dict[str, str]) -> None:
    """Set kernel parameters; only those that differ are written."""
    for name, value in values.items():
        if _sysctl(name).exists() and _sysctl(name).read_text().strip() != value:
            _sysctl(name).write_text(value)


def _sysctl(name: str) -> Path:
    return Path("/proc/sys") / name


def _run(command: list[str], stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LocalClusterError(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()}; run as root")
    return done.stdout
