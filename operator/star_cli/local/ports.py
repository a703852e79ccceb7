"""Free ports, chosen once and then kept, so that a repaired component is found where it was."""

import random
import socket
from collections.abc import Iterable

from star_cli.local.errors import LocalClusterError

REGISTRY_PORT = 5000
"""Fixed, as it is part of image references."""
S3_PORT = 7070
"""Fixed, as it is part of store URIs' endpoints."""
_RANGE = range(20000, 30000)  # below the kernel's ephemeral range (32768) and the Service node ports (30000)


def is_free(address: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def pick(names: Iterable[str], address: str = "127.0.0.1") -> dict[str, int]:
    """A different free port for each name.

    Raises:
        LocalClusterError: no free port was found in many tries.
    """
    chosen: dict[str, int] = {}
    generator = random.SystemRandom()
    for name in names:
        for _ in range(200):
            port = generator.choice(_RANGE)
            if port not in chosen.values() and is_free(address, port):
                chosen[name] = port
                break
        else:
            raise LocalClusterError(f"no free port between {_RANGE.start} and {_RANGE.stop} for {name} on {address}")
    return chosen
