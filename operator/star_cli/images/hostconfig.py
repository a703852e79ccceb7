"""Carries this machine's package configuration into a build: indexes, mirrors, proxies and certificates.

All of it goes into one folder, `tools`, that Dockerfiles mount while they run (build context `tools`): nothing of it,
neither an index's host nor a credential, ends up in an image or in its history.
"""

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from star_cli.images.errors import ImagesError
from star_cli.local.paths import cache_dir

UV_CACHE_IN_BUILD = "/var/cache/uv"
CODENAME = "bookworm"
"""The Debian that images stand on."""
TOOLS_IN_BUILD = "/opt/tools"
_PIP_PREFIX = re.compile(r"^(global|install|:env:)\.")
_APT_OPTION = re.compile(r'^Acquire::(?!.*::DropPrivileges)(?P<name>[\w:.-]+) "(?P<value>[^"]*)";$')
_APT_CARRIED = re.compile(r"^(http|https)::(Proxy|Timeout|Verify-Peer|Verify-Host)", re.IGNORECASE)


@dataclass(frozen=True)
class PackageIndexes:
    """Where pip takes packages from on this machine."""

    index: str = ""
    """Base URL that replaces the default index; empty: the default."""
    extra_indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    """URLs of pages, or folders, with package files."""


def parse_pip_config(listing: str) -> PackageIndexes:
    """Read the output of `pip config list`; of one setting given twice the later line wins, as it does for pip.

    https://pip.pypa.io/en/stable/topics/configuration/
    """
    found: dict[str, str] = {}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        name = _PIP_PREFIX.sub("", key.strip())
        found[name] = value.strip().strip("'").replace("\\n", " ")
    return PackageIndexes(
        index=found.get("index-url", ""),
        extra_indexes=tuple(found.get("extra-index-url", "").split()),
        find_links=tuple(found.get("find-links", "").split()),
    )


def uv_environment(indexes: PackageIndexes, environ: Mapping[str, str]) -> PackageIndexes:
    """What uv's own variables say comes before pip's configuration (https://docs.astral.sh/uv/reference/environment/)."""
    return PackageIndexes(
        index=environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL") or indexes.index,
        extra_indexes=tuple(environ.get("UV_INDEX", "").split()) or indexes.extra_indexes,
        find_links=tuple(environ.get("UV_FIND_LINKS", "").split(","))
        if environ.get("UV_FIND_LINKS")
        else indexes.find_links,
    )


def uv_settings(indexes: PackageIndexes) -> str:
    """uv's settings file for builds (https://docs.astral.sh/uv/reference/settings/)."""
    text = 'python-downloads = "never"\nlink-mode = "copy"\n'
    text += f"cache-dir = {json.dumps(UV_CACHE_IN_BUILD)}\n"
    if indexes.find_links:
        text += f"find-links = {json.dumps(list(indexes.find_links))}\n"
    text += "\n[pip]\ncompile-bytecode = true\n"
    for url in indexes.extra_indexes:
        text += f"\n[[index]]\nurl = {json.dumps(url)}\n"
    if indexes.index:
        text += f"\n[[index]]\nurl = {json.dumps(indexes.index)}\ndefault = true\n"
    return text


def apt_settings(dump: str, certificates: str) -> str:
    """apt's settings for builds: the proxies of `apt-config dump`, and the certificates as they lie in a build."""
    lines = [f'Acquire::https::CaInfo "{certificates}";']
    for line in dump.splitlines():
        option = _APT_OPTION.match(line.strip())
        if option and option["value"] and _APT_CARRIED.match(option["name"]):
            lines.append(line.strip())
    return "\n".join(lines) + "\n"


def debian_sources(targets: str, codename: str) -> list[str]:
    """One-line apt sources of Debian's own archives, from `apt-get indextargets` as `host_debian_sources` asks for it.

    Other vendors' archives on the machine are none of the base image's business.
    """
    found: list[str] = []
    for line in targets.splitlines():
        origin, _, rest = line.partition("|")
        fields = rest.split("|")
        if origin != "Debian" or len(fields) != 4 or not fields[2].startswith(codename):
            continue
        uri, release, _, component = fields
        found.append(f"deb {uri} {release} {component}")
    return sorted(set(found))


def host_debian_sources(codename: str) -> list[str]:
    """`debian_sources` of this machine."""
    form = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(CODENAME)|$(COMPONENT)"
    return debian_sources(_output(["apt-get", "indextargets", "--format", form, "Created-By: Packages"]), codename)


def host_apt_settings(certificates: str) -> str:
    """`apt_settings` of this machine."""
    return apt_settings(_output(["apt-config", "dump"]), certificates)


def certificate_bundle(environ: Mapping[str, str] | None = None) -> Path:
    """File with the certificate authorities that this machine trusts.

    Raises:
        ImagesError: there is none where Python, or SSL_CERT_FILE, says it is.
    """
    env = os.environ if environ is None else environ
    defaults = ssl.get_default_verify_paths()
    system = "/etc/ssl/certs/ca-certificates.crt"
    for candidate in (env.get("SSL_CERT_FILE"), defaults.cafile, system):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    raise ImagesError("no certificate bundle was found; install ca-certificates or set SSL_CERT_FILE to one")


def find_uv() -> Path:
    """The uv program: beside this Python, in the cache of `make setup`, or on PATH.

    Raises:
        ImagesError: uv is nowhere.
    """
    for candidate in (Path(sys.executable).with_name("uv"), cache_dir() / "bootstrap" / "bin" / "uv"):
        if candidate.exists():
            return candidate
    found = shutil.which("uv")
    if not found:
        raise ImagesError("uv is not installed; `make setup` installs it, or put it on PATH")
    return Path(found)


def uv_variables() -> dict[str, str]:
    """Environment by which uv takes packages from where pip does, outside of builds."""
    indexes = host_indexes()
    variables = {
        "UV_DEFAULT_INDEX": indexes.index,
        "UV_INDEX": " ".join(indexes.extra_indexes),
        "UV_FIND_LINKS": ",".join(indexes.find_links),
    }
    return {name: value for name, value in variables.items() if value}


def host_indexes() -> PackageIndexes:
    """Where this machine takes Python packages from."""
    return _reachable(uv_environment(parse_pip_config(_pip_config()), os.environ))


def write_tools(folder: Path) -> PackageIndexes:
    """Fill the build context `tools`: uv, apt and their settings, the certificates. Returns the indexes used."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    indexes = host_indexes()
    shutil.copy2(find_uv(), folder / "uv")
    (folder / "uv.toml").write_text(uv_settings(indexes))
    (folder / "apt.conf").write_text(host_apt_settings(f"{TOOLS_IN_BUILD}/certificates.pem"))
    (folder / "sources.list").write_text("".join(f"{line}\n" for line in host_debian_sources(CODENAME)))
    shutil.copyfile(certificate_bundle(), folder / "certificates.pem")
    return indexes


def _pip_config() -> str:
    """`pip config list` of the first Python that has pip: environments made by uv have none."""
    bootstrap = cache_dir() / "bootstrap" / "bin" / "python"
    for python in (sys.executable, str(bootstrap), "python3"):
        listing = _output([python, "-m", "pip", "config", "list"])
        if listing:
            return listing
    return ""


def _reachable(indexes: PackageIndexes) -> PackageIndexes:
    """Leave folders of package files out that are not there, or empty: uv refuses them, pip does not."""
    kept = tuple(place for place in indexes.find_links if "://" in place or _has_entries(Path(place)))
    return PackageIndexes(indexes.index, indexes.extra_indexes, kept)


def _has_entries(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def local_folders(indexes: PackageIndexes) -> list[Path]:
    """Folders of this machine that a build needs at the same path."""
    return [Path(place) for place in indexes.find_links if "://" not in place]


def _output(command: Iterable[str]) -> str:
    try:
        done = subprocess.run(list(command), capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:  # another kind of machine: it has no such configuration
        return ""
    return done.stdout if done.returncode == 0 else ""
