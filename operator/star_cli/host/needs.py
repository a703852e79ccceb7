"""What each command needs of the machine it runs on: one row a purpose."""

from dataclasses import dataclass, replace
from enum import StrEnum

from star_cli.local.ports import REGISTRY_PORT, S3_PORT
from star_cli.local.versions import BUILDERS, CLIENTS, CONTROL_PLANE, CONTROLLERS, EMBEDDED, GIT, PROMOTION, SYSTEM


class Purpose(StrEnum):
    """What the machine is prepared for."""

    SETUP = "setup"
    PROGRAMS = "programs"
    CONTROL_PLANE = "control-plane"
    IMAGES = "images"
    CLUSTER = "cluster"
    INSTALL = "install"
    DEMO = "demo"
    TESTS = "tests"
    PROMOTION = "promotion"


@dataclass(frozen=True)
class Disk:
    """Space in GB that goes into each part while it is not there yet.

    programs: Go modules, the build cache and what is built, beside the cache folder.
    images: packages, layers and the registry's copies, in the cache folder.
    cluster: what a cluster unpacks and its pods write, in the state folder.
    temporary: of builds.
    """

    programs: int = 0
    images: int = 0
    cluster: int = 0
    temporary: int = 1


@dataclass(frozen=True)
class Needs:
    """What must be there.

    programs: names of `TOOLS`; those that the cluster's own table can download or build need Go or a release host.
    docker: a Docker engine that answers.
    containers: root, namespaces and overlay mounts.
    node: also bridges, packet filtering and control groups, for pods.
    ports: on loopback.
    memory: in GiB, of the whole machine, or of the control group that this runs in.
    """

    programs: tuple[str, ...] = ()
    docker: bool = False
    containers: bool = False
    node: bool = False
    ports: tuple[int, ...] = ()
    cores: int = 1
    memory: int = 1
    disk: Disk = Disk()


_PORTS = (REGISTRY_PORT, S3_PORT)
_SETUP = Needs()
_CONTROL_PLANE = Needs((*SYSTEM, *CONTROL_PLANE, *CONTROLLERS), disk=Disk(programs=6, cluster=1, temporary=2))
_IMAGES = Needs((*SYSTEM, *BUILDERS, "registry"), containers=True, disk=Disk(programs=2, images=22, temporary=2))
_CLUSTER = Needs(
    (*SYSTEM, *EMBEDDED),
    containers=True,
    node=True,
    ports=_PORTS,
    cores=2,
    memory=4,
    disk=Disk(programs=7, cluster=2, temporary=2),
)
# A machine that is sold with 16 GB shows less, as its kernel has a part: 14 GiB tell it from one with 12.
_CHAIN = replace(
    _CLUSTER,
    programs=(*_CLUSTER.programs, *BUILDERS),
    memory=14,
    disk=Disk(programs=7, images=22, cluster=9, temporary=2),
)
# Two modules more, and what compiling the larger of them keeps.
_PROMOTION = replace(
    _CHAIN, programs=(*_CHAIN.programs, *GIT, *PROMOTION), disk=Disk(programs=13, images=22, cluster=9, temporary=3)
)
_WITHOUT_DOCKER = {
    Purpose.SETUP: _SETUP,
    Purpose.PROGRAMS: Needs((*SYSTEM, *EMBEDDED), disk=_CONTROL_PLANE.disk),
    Purpose.CONTROL_PLANE: _CONTROL_PLANE,
    Purpose.IMAGES: _IMAGES,
    Purpose.CLUSTER: _CLUSTER,
    Purpose.INSTALL: replace(_CHAIN, memory=_CLUSTER.memory),
    Purpose.DEMO: _CHAIN,
    Purpose.TESTS: replace(_CHAIN, programs=(*_CHAIN.programs, *GIT)),
    Purpose.PROMOTION: _PROMOTION,
}
_KIND = Needs(("kind", *CLIENTS), docker=True, ports=_PORTS, cores=2, memory=4, disk=_CLUSTER.disk)
_WITH_DOCKER = {
    Purpose.IMAGES: Needs(("registry",), docker=True, disk=_IMAGES.disk),
    Purpose.CLUSTER: _KIND,
    Purpose.INSTALL: replace(_KIND, disk=_CHAIN.disk),
    Purpose.DEMO: replace(_KIND, memory=_CHAIN.memory, disk=_CHAIN.disk),
    # The tests are about the embedded cluster, on any machine; only their images are made with Docker.
    Purpose.TESTS: replace(_CHAIN, programs=(*_CLUSTER.programs, *GIT), docker=True),
    Purpose.PROMOTION: replace(_PROMOTION, programs=(*_CLUSTER.programs, *GIT, *PROMOTION), docker=True),
}


def needs_of(purpose: Purpose, *, docker: bool) -> Needs:
    """What a purpose needs on a machine where a Docker engine answers, or where none does."""
    return (_WITH_DOCKER if docker else {}).get(purpose, _WITHOUT_DOCKER[purpose])
