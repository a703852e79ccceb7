from pathlib import Path

import pytest
from typer.testing import CliRunner

from star_cli import main
from star_cli.demo.cli import find_root
from star_cli.demo.run import closing
from star_cli.demo.store import StoreAccess
from star_cli.demo.target import Target, own_target
from star_cli.errors import StarctlError
from star_cli.install import Chart
from star_cli.kubectl import Kubectl
from star_cli.local.objectstore import Credentials

ROOT = Path(__file__).parents[4]


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_helm_installs_or_upgrades_and_waits(tmp_path: Path) -> None:
    helm = program(tmp_path, "helm", f'echo "$@" >> {tmp_path}/calls')
    Chart(ROOT, helm).install(tmp_path / "kubeconfig", [Path("a.yaml"), Path("b.yaml")])
    call = (tmp_path / "calls").read_text()
    assert "upgrade --install star-operator" in call
    assert "--namespace star-system --create-namespace" in call
    assert "--values a.yaml --values b.yaml" in call
    assert "--wait" in call


def test_an_operator_that_does_not_get_ready_is_said_with_helms_words(tmp_path: Path) -> None:
    helm = program(tmp_path, "helm", "echo 'Error: values do not meet the schema' >&2; exit 1")
    with pytest.raises(StarctlError, match=r"(?s)values do not meet the schema.*describe pods"):
        Chart(ROOT, helm).install(tmp_path / "kubeconfig", [])


def test_an_installation_that_was_cut_short_is_made_way_for(tmp_path: Path) -> None:
    script = f"""echo "$1" >> {tmp_path}/calls
    case $1 in
      upgrade) [ -e {tmp_path}/free ] || {{ echo 'Error: another operation (install) is in progress' >&2; exit 1; }};;
      status) echo '{{"info": {{"status": "pending-install"}}}}';;
      uninstall) touch {tmp_path}/free;;
    esac"""
    Chart(ROOT, program(tmp_path, "helm", script)).install(tmp_path / "kubeconfig", [])
    assert (tmp_path / "calls").read_text().split() == ["upgrade", "status", "uninstall", "upgrade"]


def test_secrets_go_to_kubectl_on_its_input(tmp_path: Path) -> None:
    kubectl = Kubectl(
        program(tmp_path, "kubectl", f'echo "$@" > {tmp_path}/arguments; cat > {tmp_path}/input'), tmp_path
    )
    kubectl.apply([{"kind": "Secret", "stringData": {"k": "hidden"}}])
    assert "hidden" not in (tmp_path / "arguments").read_text()
    assert "hidden" in (tmp_path / "input").read_text()


def test_what_the_api_server_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    kubectl = Kubectl(program(tmp_path, "kubectl", "echo 'spec.tasks: Invalid value' >&2; exit 1"), tmp_path)
    with pytest.raises(StarctlError, match=r"spec\.tasks: Invalid value"):
        kubectl.apply([{}])


def test_a_port_forward_lasts_as_long_as_its_context(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; echo 'Forwarding from 127.0.0.1:4321 -> 8080'; exec sleep 60"
    with Kubectl(program(tmp_path, "kubectl", script), tmp_path).forward("ns", "star", 8080) as url:
        assert url == "http://127.0.0.1:4321"
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_a_service_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    kubectl = Kubectl(program(tmp_path, "kubectl", "echo 'error: no pods'; exit 1"), tmp_path)
    with (
        pytest.raises(StarctlError, match="Service ns/star cannot be reached: error: no pods"),
        kubectl.forward("ns", "star", 8080),
    ):
        pass


def test_the_repository_is_found_from_inside_it_and_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT / "charts" / "star-operator")
    assert find_root(None) == ROOT
    monkeypatch.chdir(tmp_path)
    assert find_root(None) == ROOT, "the checkout this program runs from"
    with pytest.raises(StarctlError, match="is no checkout"):
        find_root(tmp_path)


def test_an_own_cluster_needs_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_cli.demo.target.check_kubeconfig", lambda _: (True, ()))
    with pytest.raises(StarctlError, match="needs --values"):
        own_target(tmp_path, (), ROOT, None)
    values = tmp_path / "values.yaml"
    values.write_text("store: {uri: s3://mine}\n")
    with pytest.raises(StarctlError, match=r"store\.connection\.endpoint"):
        own_target(tmp_path, (values,), ROOT, None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    found = own_target(tmp_path, (values,), ROOT, "https://s3.example.org")
    assert found.store == StoreAccess("https://s3.example.org", Credentials("a", "b"))


def test_the_end_says_how_to_go_on_and_how_to_clean_up(tmp_path: Path) -> None:
    target = Target(tmp_path / "kubeconfig", (), StoreAccess("http://s3", Credentials("key", "hidden")), local=True)
    text = "\n".join(closing(target, Path("/bin/kubectl"), "star-demo"))
    assert "starctl local down" in text
    assert "kubectl delete namespace star-demo" in text
    assert "hidden" not in text


@pytest.mark.parametrize("command", ["demo", "install", "follow"])
def test_each_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(main.app, [command, "--help"])
    assert result.exit_code == 0
    assert "--kubeconfig" in result.output
