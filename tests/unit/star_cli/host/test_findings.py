"""What is said of a machine, by its facts; no test looks at the machine it runs on."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from star_cli.host.facts import Facts, Go, Volume, controllers, needed_sources
from star_cli.host.findings import judge, unsupported
from star_cli.host.needs import Purpose, needs_of
from star_cli.local.versions import CLIENTS, CONTROL_PLANE, CONTROLLERS, GO, NODE, SYSTEM, TOOLS

ROOT = Path(__file__).parents[4]
GB = 10**9
CGROUPS = frozenset(("cpu", "cpuset", "memory", "pids"))
BIG = Volume(free=200 * GB, writable=True, folders={name: Path("/big") for name in ("cache", "state", "temporary")})
BARE = Facts(programs=frozenset(SYSTEM), go=Go(GO, switches=True), controllers=CGROUPS, volumes=(BIG,))
"""A Debian 12 with Go, as it comes."""
DEBIAN = (
    *("containerd", "runc", "containernetworking-plugins", "nftables", "iproute2"),
    *("buildah", "mmdebstrap", "debian-archive-keyring"),
)


def told(facts: Facts, purpose: Purpose = Purpose.DEMO, *, docker: bool = False) -> str:
    return "\n".join(judge(facts, needs_of(purpose, docker=docker)).problems)


def test_a_bare_debian_lacks_packages_and_nothing_else() -> None:
    findings = judge(BARE, needs_of(Purpose.DEMO, docker=False))
    assert findings.problems == ()
    assert set(findings.packages) == set(DEBIAN)
    assert len(findings.packages) == len(set(findings.packages))


def test_with_an_engine_that_answers_no_builder_and_no_node_is_needed() -> None:
    bare = replace(BARE, docker=True, root=False, controllers=frozenset())
    findings = judge(bare, needs_of(Purpose.DEMO, docker=True))
    assert (findings.packages, findings.problems) == ((), ())
    tests = judge(replace(BARE, docker=True), needs_of(Purpose.TESTS, docker=True))
    assert "containerd" in tests.packages
    assert "buildah" not in tests.packages


def test_an_api_server_without_pods_needs_neither_root_nor_packages() -> None:
    facts = replace(BARE, root=False, controllers=frozenset(), memory=2 * 2**30)
    findings = judge(facts, needs_of(Purpose.CONTROL_PLANE, docker=False))
    assert (findings.packages, findings.problems) == ((), ())


def test_everything_there_needs_nothing() -> None:
    facts = replace(BARE, programs=frozenset(TOOLS), go=None, programs_cached=True, images_built=True)
    assert judge(facts, needs_of(Purpose.TESTS, docker=False)).packages == ()
    assert told(facts) == ""


def test_what_debian_has_in_packages_of_its_own_is_installed() -> None:
    facts = replace(BARE, venv=False, certificates=False)
    assert set(judge(facts, needs_of(Purpose.SETUP, docker=False)).packages) == {"python3.11-venv", "ca-certificates"}


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"root": False}, "only root can install them: run this as root, or `sudo apt-get install"),
        ({"root": False}, "runs containers and needs root, or a Docker engine that answers"),
        ({"apt": False}, "no apt-get to install what is missing with: install the programs of Debian's"),
        ({"go": None}, "Go is not installed, and it builds"),
        ({"go": Go((1, 19), switches=False)}, "Go 1.19 is too old"),
        ({"go": Go((1, 24), switches=False)}, "install Go 1.26 or newer"),
        ({"venv": False, "python": "/opt/python/bin/python3.11"}, "cannot make environments (venv, ensurepip)"),
        ({"cores": 1}, "needs 2 processor cores, and 1 may be used"),
        ({"memory": 8 * 2**30}, "needs 14 GiB of memory, and the machine (or the container's limit) has 8.0 GiB"),
        ({"volumes": (replace(BIG, free=12 * GB),)}, "needs 40 GB of disk for /big and /big and /big, and 12 GB"),
        ({"volumes": (replace(BIG, writable=False),)}, "cannot be written to: mend its owner or mode"),
        ({"controllers": frozenset({"cpu", "memory"})}, "No control group has cpuset, pids"),
        ({"groups_writable": False}, "The control groups are read-only"),
        ({"sysctls_writable": False}, "The kernel parameters (/proc/sys) are read-only"),
        ({"taken_ports": frozenset({5000})}, "Port 5000 of 127.0.0.1 is taken by another program"),
        ({"other_cluster": "/state/other"}, "The cluster in /state/other has this machine's pod network"),
        ({"unreachable": {"Python packages": "https://index.test/uv/: refused"}}, "No Python packages can be had"),
        ({"unreachable": {"Go modules": "https://proxy.test: timed out"}}, "No Go modules can be had"),
    ],
)
def test_what_cannot_be_installed_is_one_sentence(changed: dict[str, object], sentence: str) -> None:
    assert sentence in told(replace(BARE, **changed))  # type: ignore[arg-type]


@pytest.mark.bad_input
@pytest.mark.parametrize("system", ["Darwin arm64", "Linux aarch64"])
def test_another_kind_of_machine_is_refused_before_it_is_looked_at(system: str) -> None:
    (sentence,) = unsupported(system)
    assert f"This machine is {system}, and the programs" in sentence
    assert unsupported("Linux x86_64") == ()


def test_an_engine_that_is_asked_for_must_answer() -> None:
    assert "No Docker engine answers" in told(replace(BARE, docker=False), docker=True)


def test_go_that_brings_its_successor_is_new_enough() -> None:
    assert told(replace(BARE, go=Go((1, 21), switches=True))) == ""


def test_without_go_releases_do_where_their_host_answers() -> None:
    without = replace(BARE, go=None)
    assert told(without, Purpose.CONTROL_PLANE) == ""
    assert "it builds pause:" in told(without, Purpose.CLUSTER)
    offline = replace(without, unreachable={"releases": "https://dl.k8s.io/: timed out"})
    assert "it builds etcd, kube-apiserver" in told(offline, Purpose.CONTROL_PLANE)


def test_disk_is_counted_where_it_will_be_used() -> None:
    cache = Volume(free=30 * GB, writable=True, folders={"cache": Path("/c")})
    state = Volume(free=8 * GB, writable=True, folders={"state": Path("/s")})
    facts = replace(BARE, volumes=(cache, state))
    assert told(facts) == (
        "This needs 9 GB of disk for /s, and 8 GB are free: "
        "free some, or set STAR_CACHE, STAR_STATE or TMPDIR to folders of a larger disk."
    )
    assert told(replace(facts, cluster_made=True)) == ""
    warm = replace(BIG, free=11 * GB)
    assert told(replace(BARE, volumes=(warm,), programs_cached=True, images_built=True)) == ""


def test_controllers_of_both_versions_are_found() -> None:
    mounts = "cgroup /g/cpu cgroup rw,relatime,cpu,cpuacct 0 0\ncgroup /g/pids cgroup rw,pids 0 0\nx / ext4 rw 0 0\n"
    assert {"cpu", "cpuacct", "pids"} <= controllers(mounts, ["", ""])
    assert controllers("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", ["cpuset cpu memory pids\n"]) == CGROUPS


def test_every_purpose_names_programs_of_the_list() -> None:
    for purpose in Purpose:
        for docker in (False, True):
            assert set(needs_of(purpose, docker=docker).programs) <= set(TOOLS)
    everything = {*CONTROL_PLANE, *CONTROLLERS, *CLIENTS, *NODE}
    for purpose in (Purpose.PROGRAMS, Purpose.CLUSTER, Purpose.DEMO, Purpose.TESTS):
        assert everything <= set(needs_of(purpose, docker=False).programs)


def test_go_of_the_list_builds_every_module() -> None:
    modules = (ROOT / "operator/star_cli/local/gomods").glob("*/go.mod")
    lines = [line for module in modules for line in module.read_text().splitlines() if line.startswith("go ")]
    assert max(tuple(int(part) for part in line.split()[1].split(".")[:2]) for line in lines) == GO


def test_the_check_runs_on_the_standard_library_alone() -> None:
    command = [sys.executable, "-S", "-c", "import star_cli.host.__main__, star_cli.host.prepare"]
    environment = {"PYTHONPATH": str(ROOT / "operator")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_a_cluster_without_images_asks_for_no_package_index() -> None:
    offline = replace(BARE, environment_made=True, programs_cached=True)
    assert "Python packages" not in needed_sources(needs_of(Purpose.CLUSTER, docker=False), offline)
    assert "Python packages" in needed_sources(needs_of(Purpose.DEMO, docker=False), offline)
    assert needed_sources(needs_of(Purpose.DEMO, docker=False), replace(offline, images_built=True)) == {}
