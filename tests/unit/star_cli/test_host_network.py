"""What is left of a pod network is taken away, whatever state the pods were in."""

from pathlib import Path

from star_cli.local.network import BRIDGE, HostNetwork

STATE = "/state"


def program(path: Path, *cases: str) -> Path:
    """A program that writes down how it was called, and does as its cases say."""
    lines = ["#!/bin/sh", f'echo "$*" >> {path}.log', 'case "$*" in', *cases, "esac"]
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o755)
    return path


def test_down_removes_the_pods_links_before_the_bridge_and_one_that_is_gone_does_not_stop_it(tmp_path: Path) -> None:
    ip = program(
        tmp_path / "ip",
        f"""*"show dev {BRIDGE}") echo '[{{"ifalias": "{STATE}"}}]';;""",
        f"""*"show master {BRIDGE}") echo '[{{"ifname": "veth1"}}, {{"ifname": "veth2"}}]';;""",
        """*"delete veth1") exit 1;;""",
    )
    nft = program(tmp_path / "nft", "*) cat > /dev/null;;")
    HostNetwork(ip, nft).down(STATE)
    calls = (tmp_path / "ip.log").read_text().splitlines()
    deleted = [call for call in calls if "delete" in call]
    assert deleted == [f"link delete {name}" for name in ("veth1", "veth2", BRIDGE)]


def test_the_network_of_another_cluster_is_left_alone(tmp_path: Path) -> None:
    ip = program(tmp_path / "ip", f"""*"show dev {BRIDGE}") echo '[{{"ifalias": "/other"}}]';;""")
    HostNetwork(ip, tmp_path / "nft").down(STATE)
    assert "delete" not in (tmp_path / "ip.log").read_text()
