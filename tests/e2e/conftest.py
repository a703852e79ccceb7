"""The embedded cluster of the end-to-end tests: one a session.

It is made for the session and taken down after it, and then nothing of it may be left on the machine. Where a cluster
of this user's runs, of `make demo` for example, the tests use that one, and it stays, as there can be one alone. With
STAR_E2E_KEEP=1 they use the one called `default`: quick while one works on a test.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from star_cli.host.facts import TESTS_CLUSTER, cluster_of_tests
from star_cli.local.cluster import Engine, LocalCluster
from tests.support.images import build_probe, push_program
from tests.support.kubectl import Kubectl
from tests.support.machine import snapshot


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """An embedded cluster that is up."""
    running = LocalCluster(cluster_of_tests())
    if running.name != TESTS_CLUSTER:
        running.up(Engine.EMBEDDED)
        yield running
        return
    running.down()  # what a killed session left
    before = snapshot()
    try:
        running.up(Engine.EMBEDDED)
        yield running
    finally:
        running.down()
    assert snapshot() == before


@pytest.fixture(scope="session")
def kubectl(cluster: LocalCluster) -> Kubectl:
    """kubectl as the cluster's administrator."""
    return Kubectl(cluster.kubeconfig)


@pytest.fixture(scope="session")
def probe_image(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Reference of an image that serves and gets over HTTP, in the cluster's registry."""
    program: Path = build_probe(tmp_path_factory.mktemp("probe"))
    return push_program(program, "test/probe")
