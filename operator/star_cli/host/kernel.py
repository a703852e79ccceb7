"""The kernel features that containers and a node's pods need, each tried once in namespaces that end with the trial.

Trying is the only answer that holds for modules, built-in features, containers and security profiles alike; the kernel
loads a module by itself when it is asked for what is in it.
"""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from star_cli.local.network import PodNetwork, masquerade_rules

_SECONDS = 10.0
_NAMESPACES = ("--mount", "--net", "--pid", "--ipc", "--uts", "--fork")
# what kube-proxy's nftables mode is made of: verdict maps, random choice, address translation, local addresses
_SERVICE_RULES = """
table ip star_trial {
  map services { type ipv4_addr . inet_proto . inet_service : verdict; }
  chain endpoint { meta l4proto tcp dnat to 10.0.0.1:80; }
  chain service { numgen random mod 1 vmap { 0 : goto endpoint }; }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr . meta l4proto . th dport vmap @services
    fib daddr type local ct state new counter
  }
}
"""


@dataclass(frozen=True)
class Trial:
    """One feature: the command that succeeds where it is there, and what a person would call it."""

    feature: str
    command: tuple[str, ...]
    stdin: str = ""


def container_trials(programs: Mapping[str, Path], scratch: Path) -> list[Trial]:
    """What running any container takes; `scratch` is a folder of the file system that images will be unpacked on."""
    unshare, mount = str(programs["unshare"]), str(programs["mount"])
    layers = f"lowerdir={scratch / 'lower'},upperdir={scratch / 'upper'},workdir={scratch / 'work'}"
    overlay = (mount, "-t", "overlay", "overlay", "-o", layers, str(scratch / "merged"))
    return [
        Trial("namespaces (mount, network, pid, ipc, uts)", (unshare, *_NAMESPACES, str(programs["true"]))),
        Trial(f"overlay mounts in {scratch.parent}", (unshare, "--mount", *overlay)),
    ]


def node_trials(programs: Mapping[str, Path]) -> list[Trial]:
    """What the pod network takes."""
    net = (str(programs["unshare"]), "--net")
    ip, nft = str(programs["ip"]), str(programs["nft"])
    rules = masquerade_rules(PodNetwork("10.244.0.0/24")) + _SERVICE_RULES
    return [
        Trial("network bridges", (*net, ip, "link", "add", "star-trial", "type", "bridge")),
        Trial("pairs of virtual links (veth)", (*net, ip, "link", "add", "star-a", "type", "veth", "peer", "star-b")),
        Trial("packet filtering with nftables (nat, maps, fib, conntrack)", (*net, nft, "-f", "-"), rules),
    ]


def missing_features(programs: Mapping[str, Path], folder: Path, *, node: bool) -> list[str]:
    """A sentence for each feature that this kernel, or the container that this runs in, does not give.

    Args:
        programs: `unshare`, `mount`, `true`, and for a node `ip` and `nft`.
        folder: where images will be unpacked.
        node: whether pods will run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".trial-") as scratch:
        for name in ("lower", "upper", "work", "merged"):
            (Path(scratch) / name).mkdir()
        trials = container_trials(programs, Path(scratch)) + (node_trials(programs) if node else [])
        return list(_sentences(trials))


def _sentences(trials: list[Trial]) -> Iterator[str]:
    for trial in trials:
        said = _try(trial)
        if said is not None:
            yield (
                f"The kernel gives no {trial.feature} here ({said or 'no reason given'}): run on a machine of your own "
                "with Linux 5.13 or newer, or in a container that was started with --privileged."
            )


def _try(trial: Trial) -> str | None:
    """None where the feature is there, else the program's first line about it."""
    try:
        done = subprocess.run(
            trial.command, input=trial.stdin, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr.strip().partition("\n")[0]
