"""The Secret's files, as the programs want them: nothing of them ever is an argument, a variable, a log or a commit."""

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from star_contracts.errors import Reason
from star_contracts.promotion import GIT_DIR, GitFile
from star_jobs.errors import TerminalFailure

_SYSTEM_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")
_SCP = re.compile(r"^(?:[^@/]+@)?([^:/]+):")
_ASKPASS = """\
#!/bin/sh
case "$1" in
  *"'https://{host}'"* | *"@{host}'"*) ;;
  *) exit 1 ;;
esac
case "$1" in
  Username*) file='{folder}/username' ;;
  *) file='{folder}/password' ;;
esac
[ -r "$file" ] || {{ [ "$file" = '{folder}/username' ] && echo x-access-token; exit; }}
printf '%s\\n' "$(cat "$file")"
"""
_MIN_SECRET = 6
"""Shorter texts are not looked for in what is quoted: they would blot out words."""


def git_dir() -> Path:
    """Return the folder of the Secret's files (env STAR_GIT_DIR)."""
    return Path(os.environ.get("STAR_GIT_DIR", GIT_DIR))


def host_of(repository: str) -> str:
    """Return `host[:port]` of a repository's URL."""
    parts = urlsplit(repository)
    if parts.scheme:
        return parts.netloc.rpartition("@")[2]
    match = _SCP.match(repository)
    return match.group(1) if match else ""


@dataclass(frozen=True)
class Secrets:
    """The Secret's folder."""

    folder: Path

    def path(self, name: GitFile) -> Path | None:
        """Return a key's file; None where the Secret has no such key."""
        path = self.folder / name.value
        return path if path.is_file() else None

    def text(self, name: GitFile) -> str | None:
        """Return what a key holds, without blanks around it; None where it is missing or empty."""
        path = self.path(name)
        return (path.read_text(errors="replace").strip() or None) if path is not None else None

    def token(self) -> str | None:
        """Return the token of the forge's API."""
        return self.text(GitFile.TOKEN) or self.text(GitFile.PASSWORD)

    def scrubbed(self, text: str) -> str:
        """Return a text from outside, with the secrets that it quotes taken out."""
        for name in (GitFile.PASSWORD, GitFile.TOKEN):
            secret = self.text(name)
            if secret is not None and len(secret) >= _MIN_SECRET:
                text = text.replace(secret, "***")
        return text

    def authorities(self) -> Path | None:
        """Return the Secret's own certificate authorities, looked at. Raises TerminalFailure(GitHostUnverified)."""
        own = self.path(GitFile.CA)
        if own is None:
            return None
        try:
            ssl.create_default_context(cafile=str(own))
        except (OSError, ssl.SSLError) as error:
            raise TerminalFailure(
                Reason.GIT_HOST_UNVERIFIED, f"{GitFile.CA} in the Git Secret holds no PEM certificates: correct it"
            ) from error
        return own

    def bundle(self, scratch: Path) -> Path:
        """Write all certificate authorities that are believed into one file: the pod's, and the Secret's own."""
        pods = Path(os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or _SYSTEM_BUNDLE)
        own = self.authorities()
        parts = [path.read_bytes() for path in (pods, own) if path is not None and path.is_file()]
        bundle = scratch / "authorities.pem"
        bundle.write_bytes(b"\n".join(parts))
        return bundle

    def private_copy(self, name: GitFile, scratch: Path) -> Path | None:
        """Copy a key so that only this user reads it, as ssh demands, with the newline that it needs at the end."""
        text = self.text(name)
        if text is None:
            return None
        copy = scratch / name.value
        descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text.replace("\r\n", "\n") + "\n")
        return copy


def environment(
    secrets: Secrets, repository: str, scratch: Path, protocols: tuple[str, ...], pinned: str = ""
) -> Mapping[str, str]:
    """Return the whole environment of the git program: nothing of the pod's but its search path and its proxies.

    No file of the machine configures it, it asks nobody, and it speaks only `protocols`. `pinned` is what the
    repository's host stands for (`promote.reach`).
    """
    home = scratch / "home"
    home.mkdir(exist_ok=True)
    config = scratch / "gitconfig"
    config.write_text(_config(secrets.bundle(scratch), pinned))
    found = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(config),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ALLOW_PROTOCOL": ":".join(protocols),
        "GIT_ASKPASS": str(_askpass(secrets, repository, scratch)),
        "GIT_SSH_COMMAND": _ssh(secrets, scratch),
        "GIT_SSH_VARIANT": "ssh",
    }
    return found | {name: os.environ[name] for name in _PROXIES if name in os.environ}


def _config(bundle: Path, pinned: str) -> str:
    resolved = f"\n    curloptResolve = {pinned}" if pinned else ""
    return f"""\
[core]
    hooksPath = /dev/null
    attributesFile = /dev/null
    fsmonitor = false
[init]
    defaultBranch = star
    templateDir =
[http]
    followRedirects = false
    sslVerify = true
    sslCAInfo = {bundle}{resolved}
    lowSpeedLimit = 1
    lowSpeedTime = 60
[gc]
    auto = 0
[maintenance]
    auto = false
[transfer]
    bundleURI = false
[fetch]
    recurseSubmodules = false
[push]
    recurseSubmodules = no
    gpgSign = false
    followTags = false
[credential]
    helper =
[advice]
    pushUpdateRejected = false
"""


def _askpass(secrets: Secrets, repository: str, scratch: Path) -> Path:
    """Write the program that git asks for user and password; it answers for the repository's own host alone."""
    script = scratch / "askpass"
    script.write_text(_ASKPASS.format(host=host_of(repository), folder=secrets.folder))
    script.chmod(0o700)
    return script


def _ssh(secrets: Secrets, scratch: Path) -> str:
    """Return the command for SSH: the Secret's key, and no host that the Secret does not know."""
    key = secrets.private_copy(GitFile.SSH_KEY, scratch)
    known = secrets.private_copy(GitFile.KNOWN_HOSTS, scratch) or Path("/dev/null")
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(known),
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "PasswordAuthentication": "no",
        "ConnectTimeout": "30",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
        "ForwardAgent": "no",
        "PermitLocalCommand": "no",
    }
    identity = f" -i {key}" if key is not None else ""
    return f"ssh -F none{identity} " + " ".join(f"-o {name}={value}" for name, value in options.items())
