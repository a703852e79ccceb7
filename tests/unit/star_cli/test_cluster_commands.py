import json
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from star_cli import main
from star_cli.host.facts import docker_reachable
from star_cli.local import cluster as cluster_module
from star_cli.local import embedded, kind
from star_cli.local.cluster import ClusterStatus, ComponentStatus, Engine, LocalCluster
from star_cli.local.errors import LocalClusterError
from star_cli.local.kind import create_command, kind_config, registry_command, s3_command
from star_cli.local.objectstore import load_credentials
from star_cli.local.paths import Layout


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAR_STATE", str(tmp_path / "state"))


def test_kind_commands_publish_on_loopback_only_and_hold_no_secret() -> None:
    layout = Layout(Path("/s/dev"))
    assert create_command(Path("/bin/kind"), "star-dev", layout)[:5] == [
        *("/bin/kind", "create", "cluster"),
        *("--name", "star-dev"),
    ]
    assert "127.0.0.1:5000:5000" in registry_command("r")
    command = s3_command("s")
    assert "127.0.0.1:7070:7070" in command
    assert "ROOT_SECRET_ACCESS_KEY" in command, "docker reads the value from its own environment"
    assert not any("ROOT_SECRET_ACCESS_KEY=" in part for part in command)


def test_kind_nodes_take_local_images_from_the_registry() -> None:
    config = yaml.safe_load(kind_config("star-dev-registry"))
    assert config["nodes"] == [{"role": "control-plane"}]
    assert 'config_path = "/etc/containerd/certs.d"' in config["containerdConfigPatches"][0]


def test_docker_client_without_engine_is_not_reachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\necho cannot connect >&2\nexit 1\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not docker_reachable()
    client.write_text("#!/bin/sh\necho 28.2\n")
    assert docker_reachable()


def test_kind_cluster_is_made_once_and_its_containers_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[str] = []
    answers = {"get clusters": "other\n", "docker ps": "", "docker inspect --format {{json": '{"kind": {}}'}

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        line = " ".join(command)
        commands.append(line)
        found = [answer for key, answer in answers.items() if key in line]
        return subprocess.CompletedProcess(command, 0, found[0] if found else "", "")

    monkeypatch.setattr(kind.subprocess, "run", run)
    monkeypatch.setattr(kind, "make_bucket", lambda *_: None)
    monkeypatch.setattr(kind.KindCluster, "_apply_objects", lambda self: None)
    made = LocalCluster("dev")
    monkeypatch.setattr(made.binaries, "ensure", lambda name: Path("kind"))
    made._kind().up()
    assert sum("create cluster --name star-dev" in command for command in commands) == 1
    assert sum(command.startswith("docker run") for command in commands) == 2
    commands.clear()
    answers |= {"get clusters": "star-dev\n", "name=^star-dev-registry$": "star-dev-registry"}
    answers["name=^star-dev-s3$"] = "star-dev-s3"
    answers.pop("docker ps")
    made._kind().up()
    assert not any("create" in command or command.startswith("docker run") for command in commands)
    assert "docker start star-dev-registry" in commands


def test_credentials_are_random_kept_and_private(tmp_path: Path) -> None:
    first = load_credentials(tmp_path / "a.json")
    assert load_credentials(tmp_path / "a.json") == first
    assert load_credentials(tmp_path / "b.json") != first
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600
    assert first.secret_key not in repr(first)


@pytest.mark.bad_input
def test_embedded_cluster_without_root_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.os, "geteuid", lambda: 1000)
    with pytest.raises(LocalClusterError, match=r"needs root: use sudo, or --control-plane-only"):
        LocalCluster("dev").up(Engine.EMBEDDED)


@pytest.mark.bad_input
def test_cluster_of_another_engine_is_refused() -> None:
    cluster = LocalCluster("dev")
    cluster.layout.root.mkdir(parents=True)
    cluster.layout.state_file.write_text(json.dumps({"engine": "kind"}))
    with pytest.raises(LocalClusterError, match="dev is a kind one; take it down first"):
        cluster.up(Engine.EMBEDDED)


def test_engine_is_kind_where_docker_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "docker_reachable", lambda: True)
    assert cluster_module._detect() is Engine.KIND
    monkeypatch.setattr(cluster_module, "docker_reachable", lambda: False)
    assert cluster_module._detect() is Engine.EMBEDDED


@pytest.mark.parametrize(
    ("engine", "nodes", "pid", "well"),
    [
        (Engine.EMBEDDED, (("n", True),), 1, True),
        (Engine.EMBEDDED, (("n", False),), 1, False),
        (Engine.EMBEDDED, (), 1, False),
        (Engine.EMBEDDED, (("n", True),), None, False),
        (Engine.CONTROL_PLANE, (), 1, True),
    ],
)
def test_well_means_everything_runs(
    engine: Engine, nodes: tuple[tuple[str, bool], ...], pid: int | None, well: bool
) -> None:
    component = ComponentStatus("etcd", pid, 1.0, Path("/l"))
    status = ClusterStatus("dev", engine, Path("/k"), api_ready=True, nodes=nodes, components=(component,))
    assert status.well is well


def test_status_of_no_cluster_says_how_to_make_one(capsys: pytest.CaptureFixture[str]) -> None:
    result = CliRunner().invoke(main.app, ["local", "status", "--name", "dev"])
    assert isinstance(result.exception, LocalClusterError)
    assert "starctl local up --name dev" in str(result.exception)


def test_error_is_one_sentence_on_stderr_and_exit_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["starctl", "local", "status", "--name", "Wrong_Name"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: cluster name 'Wrong_Name'")
    assert "Traceback" not in captured.err


def test_brackets_in_an_error_are_shown_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise LocalClusterError("log ends: [/plugin] failed")

    monkeypatch.setattr(main, "app", fails)
    with pytest.raises(SystemExit):
        main.main()
    assert "[/plugin] failed" in capsys.readouterr().err


@pytest.mark.bad_input
def test_store_secret_without_a_cluster_is_refused() -> None:
    with pytest.raises(LocalClusterError, match="no cluster dev with an S3 server"):
        LocalCluster("dev").write_store_secret("default")
