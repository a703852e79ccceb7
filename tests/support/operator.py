"""The operator as a process of the tests: started, killed by its recorded id, started again.

On a busy machine it may lose its lease, and ends; as the kubelet would, it is started again then. Whatever else ends it
fails the test.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import yaml

from star_cli.local import ports
from star_operator.core.settings import ImageSet, Pool, Settings, StoreSettings
from tests.support.kubectl import eventually


def settings_without_images(progress_port: int, hub: str) -> Settings:
    """Settings of a cluster without images: pods are played, not run. `hub` is the URL that models are looked up at."""
    images = ImageSet(jobs="jobs", trainer="trainer", rollout="rollout", vllm="vllm", gateway="gateway", git="git")
    h20 = Pool(node_selector={"star.recsys.dev/pool": "h20"}, image_variant="cuda", env={"HF_ENDPOINT": hub})
    return Settings(
        store=StoreSettings(uri="s3://star/artifacts"),
        pools={"cpu": Pool(env={"HF_ENDPOINT": hub}), "h20": h20},
        images={"cpu": images, "cuda": images},
        progress_url=f"http://127.0.0.1:{progress_port}/v1/progress",
        llm_idle_seconds=1,
        resync_seconds=30,
    )


class OperatorProcess:
    """One operator over a kubeconfig; its log is in `folder`."""

    def __init__(
        self,
        kubeconfig: Path,
        folder: Path,
        hub: str = "http://127.0.0.1:1",
        *,
        lease: str = "star-operator",
        namespaces: tuple[str, ...] = (),
    ) -> None:
        self._lease = lease
        self._kubeconfig = kubeconfig
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        chosen = ports.pick(("health", "progress"))
        self.health_port, self.progress_port = chosen["health"], chosen["progress"]
        self.settings = folder / "settings.yaml"
        values = settings_without_images(self.progress_port, hub).model_copy(update={"watch_namespaces": namespaces})
        self.settings.write_text(yaml.safe_dump(values.to_json_dict()))

    @property
    def log(self) -> Path:
        """Its JSON log lines."""
        return self._folder / "operator.log"

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._process is not None
        return self._process.pid

    def start(self, *, leading: bool = True) -> None:
        """Start it, and wait until it is ready; and until it leads, where it is not to stand by."""
        process = self._process = self._launch()
        try:
            eventually(lambda: self.ready() and (self.leads() or not leading), f"the operator is ready; see {self.log}")
        except BaseException:
            process.kill()
            raise

    def _launch(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "star_operator", "--settings", str(self.settings)]
        command += ["--kubeconfig", str(self._kubeconfig), "--namespace", "star-system"]
        command += ["--lease", self._lease]
        command += ["--health-port", str(self.health_port), "--progress-port", str(self.progress_port)]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stderr=log, stdout=log, env={**os.environ, "PYTHONPATH": ""})

    def ready(self) -> bool:
        """Say whether it answers its readiness probe."""
        assert self._process is not None
        assert self._process.poll() is None, f"the operator ended: {self.log.read_text()[-3000:]}"
        try:
            return httpx.get(f"http://127.0.0.1:{self.health_port}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def leads(self) -> bool:
        """Say whether it acts."""
        return "star_leader 1.0" in httpx.get(f"http://127.0.0.1:{self.health_port}/metrics", timeout=10).text

    def kill(self) -> None:
        """Kill it without a chance to clean up."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it as the kubelet would."""
        self._end(signal.SIGTERM)

    def _end(self, signum: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.poll() is None, f"the operator ended by itself: {self.log.read_text()[-3000:]}"
        process.send_signal(signum)
        process.wait(timeout=30)
