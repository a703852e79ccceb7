"""Where this pod stands among the pods of a multi-node training run.

The pods are an Indexed Job behind a headless Service (Kubernetes "Job with Pod-to-Pod Communication"): pod i has the
host name `<job>-<i>`, so that every pod can work out the first one's name without asking anybody.
"""

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from star_contracts.errors import Reason
from star_jobs.errors import TerminalFailure

DEFAULT_PORT = 29500


@dataclass(frozen=True)
class Node:
    """This pod's place."""

    rank: int
    """0 for the pod that leads and writes the artifact."""
    nodes: int
    master: str
    """Host name or address of the pod of rank 0."""
    port: int = DEFAULT_PORT

    @property
    def leads(self) -> bool:
        """True for the one pod that reports progress and writes the artifact."""
        return self.rank == 0


def this_node(nodes: int, rank: int, env: Mapping[str, str], fqdn: str | None = None) -> Node:
    """Return this pod's place. `MASTER_ADDR` and `MASTER_PORT` win over the name worked out from this pod's own."""
    port = int(env.get("MASTER_PORT") or DEFAULT_PORT)
    if nodes == 1:
        return Node(rank=0, nodes=1, master="127.0.0.1", port=port)
    if rank >= nodes:
        raise TerminalFailure(
            Reason.INVALID_JOB_SPEC,
            f"JOB_COMPLETION_INDEX is {rank}, but the stage has only {nodes} nodes: run {nodes} pods",
        )
    return Node(
        rank=rank, nodes=nodes, master=env.get("MASTER_ADDR") or first_host(fqdn or socket.getfqdn()), port=port
    )


def first_host(fqdn: str) -> str:
    """Return the host name of the Indexed Job's pod 0, given any of its pods' full host names."""
    host, _, domain = fqdn.partition(".")
    match = re.fullmatch(r"(.+)-\d+", host)
    if match is None:
        raise TerminalFailure(
            Reason.INVALID_JOB_SPEC,
            f"the host name {host} is not that of an Indexed Job's pod (<job>-<index>): "
            "set MASTER_ADDR to the first pod's name",
        )
    return f"{match[1]}-0" + (f".{domain}" if domain else "")
