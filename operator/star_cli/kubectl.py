"""kubectl as a subprocess, for what it does best: applying files, and reaching a Service from this machine."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_cli.errors import StarctlError

FIELD_MANAGER = "starctl"
_APPLY_SECONDS = 120
_FORWARD_SECONDS = 30.0


@dataclass(frozen=True)
class Kubectl:
    """kubectl with one kubeconfig."""

    program: Path
    kubeconfig: Path

    def apply(self, objects: Sequence[dict[str, Any]], namespace: str | None = None) -> None:
        """Server-side apply of several objects at once; fields that somebody else had set are taken over.

        Raises:
            StarctlError: the API server refuses one of them; its own sentence is in the message.
        """
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        place = ["--namespace", namespace] if namespace else []
        options = ["--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}", "--filename", "-"]
        # On stdin, not in the arguments: a Secret among the objects stays out of the process list.
        self.run("apply", *place, *options, stdin=json.dumps(document))

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run one command and return what it prints. Raises StarctlError with kubectl's own words."""
        try:
            done = subprocess.run(
                self._command(*arguments),
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                timeout=_APPLY_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise StarctlError(f"kubectl {arguments[0]} gave no answer within {_APPLY_SECONDS} s") from error
        if done.returncode != 0:
            raise StarctlError(f"kubectl {arguments[0]} failed: {done.stderr.strip()}")
        return done.stdout

    @contextmanager
    def forward(self, namespace: str, service: str, port: int) -> Iterator[str]:
        """Forward a free local port to a Service for as long as the context lasts; gives `http://127.0.0.1:PORT`.

        Raises:
            StarctlError: no pod of the Service can be reached.
        """
        command = self._command("port-forward", "--namespace", namespace, f"service/{service}", f":{port}")
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()  # "Forwarding from 127.0.0.1:43211 -> 8080", or an error and the end
            if not line.startswith("Forwarding from"):
                raise StarctlError(f"Service {namespace}/{service} cannot be reached: {line.strip() or 'no answer'}")
            yield f"http://{line.split()[2]}"
        finally:
            process.terminate()
            process.wait(timeout=_FORWARD_SECONDS)

    def _command(self, *arguments: str) -> list[str]:
        return [str(self.program), f"--kubeconfig={self.kubeconfig}", *arguments]
