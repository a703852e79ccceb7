"""Every command that a page, the chart's notes, a manifest's comment or a help text shows is run, as it stands.

Each is given to bash with a PATH of the programs in tests/support/programs: kubectl and helm are real, against an API
server with the chart and the samples; make prints what it would do; starctl parses its arguments; curl asks a real
gateway. A command of any other program is not found, and fails.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import uvicorn
import yaml

from star_cli.demo.manifests import merged
from star_cli.local.binaries import Binaries
from star_cli.local.controlplane import ControlPlane
from star_cli.main import app
from star_contracts.artifact import ArtifactKind, ArtifactRef
from star_contracts.job import Store
from star_contracts.serving import FetchSpec, GatewayConfig
from star_contracts.settings import Sampling
from star_jobs.serve.app import create_app
from star_jobs.serve.gateway import Gateway
from star_jobs.storage import ObjectStore
from star_operator.api.crd import file_stem
from star_operator.api.kinds import BY_KIND, KINDS
from star_operator.api.values import Values
from tests.contract.conftest import ROOT
from tests.contract.test_crds import MINIMAL, minimal
from tests.support import commands, world
from tests.support.cluster import start_control_plane
from tests.support.commands import Command
from tests.support.fakebackend import fake_backend
from tests.support.helm import CHART, helm
from tests.support.kubectl import Kubectl, eventually
from tests.support.s3 import S3Server, free_port, start_s3
from tests.unit.star_jobs.serve.conftest import open_world

CHART_VALUES: dict[str, Any] = yaml.safe_load((ROOT / "charts" / "star-operator" / "values.yaml").read_text())
STUBS = ROOT / "tests" / "support" / "programs"
KEY = "made-up"
STANDS_FOR = {
    "<kind>": "grpojob",
    "NAMESPACE": "mine",
    "FILE": "cluster.kubeconfig",
    "[PROGRAM...]": "",
    "=...": "=made-up",
}
"""Placeholders, and what a person could put there."""


def shown() -> dict[str, Command]:
    """Every command, once."""
    found = [one for path in commands.pages(ROOT) for one in commands.of_markdown(_name(path), path.read_text())]
    found += [one for path in commands.commented(ROOT) for one in commands.of_comments(_name(path), path.read_text())]
    found += commands.of_help(typer.main.get_command(app), "starctl")
    return {one.text: one for one in reversed(found)}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def notes(kubeconfig: Path) -> str:
    """The chart's notes, as an installation prints them."""
    where = ("--kubeconfig", str(kubeconfig), "--namespace", "star-system", "--create-namespace")
    return helm("upgrade", "--install", "star-operator", str(CHART), *where).partition("NOTES:")[2]


@contextmanager
def gateway(folder: Path, *, keyed: bool) -> Iterator[int]:
    """A gateway over the tiny world, in a thread; gives its port."""
    folder.mkdir()
    (folder / "keys").write_text(KEY + "\n")
    with fake_backend(world.scripted_student(world.by_number)) as fake:
        config = GatewayConfig(
            store=Store(),
            dataset=ArtifactRef(uri="s3://star/d", digest=f"sha256:{'d' * 64}"),
            backends=(fake.backend("rev-a"),),
            sampling=Sampling(max_tokens=256, seed=1),
            api_keys_file=str(folder / "keys") if keyed else None,
        )
        (folder / "gateway.json").write_text(json.dumps(config.to_json_dict()))
        running = Gateway(folder / "gateway.json", folder, lambda _config, place: open_world(place))
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(create_app(running), port=port, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            eventually(lambda: server.started and running.unready() is None, "the gateway is ready")
            yield port
        finally:
            server.should_exit = True
            thread.join(timeout=30)


@dataclass(frozen=True)
class Shell:
    """Where the commands run."""

    folder: Path
    environment: dict[str, str]
    notes: str

    def run(self, command: str) -> str:
        """Run one command and return what it prints; its failure is the test's."""
        for placeholder, value in STANDS_FOR.items():
            command = command.replace(placeholder, value)
        bash = [shutil.which("bash") or "bash", "-euo", "pipefail", "-c", command]
        done = subprocess.run(bash, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    """An API server of its own: helm does not take over CRDs that somebody else has applied."""
    with start_control_plane() as running:
        yield running


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with start_s3() as server:
        yield server


@pytest.fixture(scope="module")
def shell(cluster: ControlPlane, s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("shell")
    for part in ROOT.iterdir():
        (folder / part.name).symlink_to(part)
    for name in ("my-values.yaml", "my.yaml"):
        (folder / name).write_text("replicas: 1\n")
    (folder / "signing.key").write_text("made up")
    (folder / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nbWFkZSB1cA==\n-----END CERTIFICATE-----\n")
    shutil.copy(cluster.kubeconfig, folder / STANDS_FOR["FILE"])
    printed = notes(cluster.kubeconfig)
    kubectl = Kubectl(cluster.kubeconfig)
    kubectl.run("wait", "--for=condition=Established", *(f"crd/{file_stem(kind.INFO)}" for kind in KINDS))
    kubectl.apply(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in ("mine", "demo")))
    kubectl.run("apply", "-f", str(ROOT / "manifests" / "samples"), "--recursive")
    with gateway(folder / "open", keyed=False) as free, gateway(folder / "keyed", keyed=True) as keyed:
        status = {"status": {"url": f"http://127.0.0.1:{keyed}"}}
        kubectl.run("patch", "star", "amazon", "--subresource=status", "--type=merge", "-p", json.dumps(status))
        environment = {
            "PATH": str(_programs(folder)),
            "HOME": str(folder),
            "KUBECONFIG": str(cluster.kubeconfig),
            "API_KEY": KEY,
            "STAR_TEST_REAL_PATH": os.environ["PATH"],
            "STAR_TEST_KUBECTL": str(Binaries().ensure("kubectl")),
            "STAR_TEST_HELM": str(Binaries().ensure("helm")),
            "STAR_TEST_LOCALHOST_8080": f"127.0.0.1:{free}",
            "STAR_FETCH_SPEC": str(_fetch_spec(folder, s3)),
            "PYTHONPATH": str(ROOT),
            **s3.environment(),
        }
        yield Shell(folder, environment, printed)


def _programs(folder: Path) -> Path:
    """A folder with the programs that commands may call, and no other."""
    bin_ = folder / "programs"
    bin_.mkdir()
    for stub in STUBS.glob("*.py"):
        program = bin_ / stub.stem
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {stub} "$@"\n')
        program.chmod(0o755)
    return bin_


def _fetch_spec(folder: Path, s3: S3Server) -> Path:
    """A fetch spec of an artifact that is there."""
    files = folder / "files"
    files.mkdir()
    (files / "a").write_text("a")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment().items():
            patch.setenv(name, value)
        ref = world.publish(ObjectStore(s3.store()), s3.new_uri(), files, ArtifactKind.DATASET)
    spec = FetchSpec(store=s3.store(), artifact=ref, destination=str(folder / "fetched"))
    (folder / "fetch.json").write_text(json.dumps(spec.to_json_dict()))
    return folder / "fetch.json"


@pytest.mark.parametrize("command", shown().values(), ids=lambda one: f"{one.place} {one.text[:60]}")
def test_a_command_that_is_shown_runs(shell: Shell, command: Command) -> None:
    shell.run(command.text)


def test_the_commands_of_the_charts_notes_run(shell: Shell) -> None:
    found = commands.of_notes("NOTES.txt", shell.notes)
    assert len(found) >= 5, shell.notes
    for command in found:
        shell.run(command.text)


def test_the_samples_request_is_answered_with_a_key_and_refused_without(shell: Shell) -> None:
    path = ROOT / "manifests" / "samples" / "stardeployment.yaml"
    (command,) = (one for one in commands.of_comments(path.name, path.read_text()) if one.program == "curl")
    assert json.loads(shell.run(command.text))["source"] == "student"
    with pytest.raises(AssertionError, match="401"):
        shell.run(command.text.replace("$API_KEY", "wrong"))


def test_nothing_but_what_is_known_can_be_run(shell: Shell) -> None:
    with pytest.raises(AssertionError, match="not found"):
        shell.run("terraform apply")
    with pytest.raises(AssertionError, match="No such option"):
        shell.run("starctl local up --nodes 3")
    with pytest.raises(AssertionError, match="No rule to make target"):
        shell.run("make everything")


@pytest.mark.parametrize("page", commands.pages(ROOT), ids=_name)
def test_manifests_in_pages_are_taken(cluster: ControlPlane, shell: Shell, page: Path) -> None:
    """A whole manifest as it stands; a `spec:` alone by one of our kinds; the chart's values by their model."""
    kubectl = Kubectl(cluster.kubeconfig)
    for block in commands.yaml_blocks(page.read_text()):
        for manifest in yaml.safe_load_all(block):
            if manifest.get("apiVersion", "").startswith(("keda.sh/", "kustomize.config.k8s.io/")):
                continue  # of programs that are not here: test_applying.py and test_kustomize.py have their parts
            if set(manifest) <= set(CHART_VALUES):
                Values.model_validate(merged(CHART_VALUES, manifest))
                continue
            wholes = [manifest] if "kind" in manifest else [_completed(kind, manifest) for kind in BY_KIND]
            assert any(_taken(kubectl, one) for one in wholes), block


def _completed(kind: str, part: dict[str, Any]) -> dict[str, Any]:
    return {**minimal(kind), "spec": {**MINIMAL[kind], **part.get("spec", part)}}


def _taken(kubectl: Kubectl, manifest: dict[str, Any]) -> bool:
    try:
        kubectl.run("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(manifest))
    except RuntimeError:
        return False
    return True
