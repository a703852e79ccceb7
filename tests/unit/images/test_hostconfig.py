import tomllib
from pathlib import Path

import pytest

from star_cli.images import hostconfig, rootfs
from star_cli.images.errors import ImagesError
from star_cli.images.hostconfig import PackageIndexes

LISTING = """\
global.cert='/etc/ssl/certs/ca-certificates.crt'
global.index-url='https://user:secret@mirror.example/simple'
global.extra-index-url='https://one.example/simple\\nhttps://two.example/simple'
:env:.find-links='/srv/wheels https://files.example/page'
"""
DUMP = """\
APT::Architecture "amd64";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::https::Proxy "";
Acquire::https::CaInfo "/home/me/bundle.pem";
Acquire::Languages "none";
"""
TARGETS = """\
Debian|http://mirror.example/debian/|bookworm|bookworm|main
Debian|http://mirror.example/debian/|bookworm-updates|bookworm-updates|main
Debian|http://mirror.example/debian/|bookworm|bookworm|main
Debian|http://mirror.example/debian/|trixie|trixie|main
Other Vendor|https://vendor.example/|bookworm|bookworm|main
"""


def test_pips_configuration_is_read() -> None:
    found = hostconfig.parse_pip_config(LISTING)
    assert found.index == "https://user:secret@mirror.example/simple"
    assert found.extra_indexes == ("https://one.example/simple", "https://two.example/simple")
    assert found.find_links == ("/srv/wheels", "https://files.example/page")


def test_no_configuration_is_the_default_index() -> None:
    assert hostconfig.parse_pip_config("") == PackageIndexes()
    assert "index" not in tomllib.loads(hostconfig.uv_settings(PackageIndexes()))


def test_uvs_own_variables_come_first() -> None:
    found = hostconfig.uv_environment(PackageIndexes("https://pip.example"), {"UV_DEFAULT_INDEX": "https://uv.example"})
    assert found == PackageIndexes("https://uv.example")
    assert hostconfig.uv_environment(PackageIndexes("https://pip.example"), {}) == PackageIndexes("https://pip.example")


def test_uvs_settings_say_the_same() -> None:
    settings = tomllib.loads(hostconfig.uv_settings(hostconfig.parse_pip_config(LISTING)))
    assert settings["index"][-1] == {"url": "https://user:secret@mirror.example/simple", "default": True}
    assert settings["index"][0] == {"url": "https://one.example/simple"}
    assert settings["find-links"] == ["/srv/wheels", "https://files.example/page"]
    assert settings["pip"]["compile-bytecode"] is True


def test_apts_proxies_are_carried_and_its_certificates_replaced() -> None:
    lines = hostconfig.apt_settings(DUMP, "/opt/tools/certificates.pem").splitlines()
    assert lines == [
        'Acquire::https::CaInfo "/opt/tools/certificates.pem";',
        'Acquire::http::Proxy "http://proxy.example:3128";',
    ]


def test_only_debians_own_archives_of_the_release_are_used() -> None:
    assert hostconfig.debian_sources(TARGETS, "bookworm") == [
        "deb http://mirror.example/debian/ bookworm main",
        "deb http://mirror.example/debian/ bookworm-updates main",
    ]


def test_the_tools_are_private_and_complete(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    hostconfig.write_tools(tools)
    assert {file.name for file in tools.iterdir()} == {"uv", "uv.toml", "apt.conf", "sources.list", "certificates.pem"}
    assert tools.stat().st_mode & 0o077 == 0
    assert "BEGIN CERTIFICATE" in (tools / "certificates.pem").read_text()


def test_the_certificates_named_by_the_user_come_first(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    assert hostconfig.certificate_bundle({"SSL_CERT_FILE": str(bundle)}) == bundle


def test_the_root_file_system_forgets_where_it_came_from(tmp_path: Path) -> None:
    settings = tmp_path / "apt.conf"
    settings.write_text('Acquire::http::Proxy "http://proxy.example:3128";\n')
    sources = ["deb http://mirror.example/debian/ bookworm main"]
    command = rootfs.command(("tini",), sources, settings, tmp_path / "rootfs.tar")
    assert "--include=python3,tini" in command
    assert command[-3:] == ["bookworm", str(tmp_path / "rootfs.tar"), sources[0]]
    hook = next(option for option in command if option.startswith("--customize-hook"))
    assert "sources.list" in hook
    assert "99mmdebstrap" in hook


def test_the_root_file_systems_tag_follows_its_packages() -> None:
    tags = {rootfs.reference("localhost:5000", packages) for packages in (("tini",), ("tini", "gcc"), ("tini",))}
    assert len(tags) == 2


def test_without_mmdebstrap_the_way_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImagesError, match=r"name one with --base-image .* or install mmdebstrap"):
        rootfs.make(("tini",), tmp_path, tmp_path / "certificates.pem")
