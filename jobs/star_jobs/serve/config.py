"""Reading and watching the gateway's configuration file."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from star_contracts.serving import GATEWAY_CONFIG_PATH, GatewayConfig

CONFIG_PATH_VARIABLE = "STAR_GATEWAY_CONFIG"


class InvalidConfig(ValueError):
    """The configuration cannot be used; the sentence names the field."""


def config_path(environment: Mapping[str, str]) -> Path:
    """Return where the configuration is: the mounted ConfigMap, or what STAR_GATEWAY_CONFIG says."""
    return Path(environment.get(CONFIG_PATH_VARIABLE, GATEWAY_CONFIG_PATH))


def load_config(path: Path) -> GatewayConfig:
    """Read and check the configuration. Raises InvalidConfig."""
    try:
        config = GatewayConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidConfig(f"{path} cannot be read ({os.strerror(error.errno or 0)}); mount the ConfigMap") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InvalidConfig(f"{path}: {field}: {first['msg']}") from error
    _check_backends(config)
    return config


def _check_backends(config: GatewayConfig) -> None:
    revisions = [backend.revision for backend in config.backends]
    twice = sorted({revision for revision in revisions if revisions.count(revision) > 1})
    if twice:
        raise InvalidConfig(f"backends: revision {twice[0]} is listed twice; give each backend its own revision")
    if not any(backend.weight for backend in config.backends):
        raise InvalidConfig("backends: every weight is 0, so nobody would be served; give one of them a weight")


@dataclass(frozen=True)
class FileSignature:
    """Tells two states of a file apart. A ConfigMap's update swaps a symlink, so the inode changes with the content."""

    inode: int
    modified_ns: int
    size: int

    @classmethod
    def of(cls, path: str | Path | None) -> "FileSignature | None":
        """Return the file's present signature, None while there is no such file."""
        if path is None:
            return None
        try:
            stat = Path(path).stat()
        except OSError:
            return None
        return cls(inode=stat.st_ino, modified_ns=stat.st_mtime_ns, size=stat.st_size)
