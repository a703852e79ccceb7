"""`starctl install`: the operator's chart into a cluster, as an installation or an upgrade of what is there."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from star_cli.errors import StarctlError
from star_cli.local.progress import Reporter, Silent

RELEASE = "star-operator"
NAMESPACE = "star-system"
CHART = Path("charts/star-operator")
EMBEDDED_VALUES = CHART / "values-embedded.yaml"
_READY = "5m"
_GRACE_SECONDS = 60
_LAST_LINES = 12


@dataclass(frozen=True)
class Chart:
    """The chart of one checkout, and the programs to install it with."""

    root: Path
    """The repository."""
    helm: Path
    reporter: Reporter = field(default_factory=Silent)

    def install(self, kubeconfig: Path, values: Sequence[Path]) -> None:
        """Install or upgrade the operator, and wait until it is ready. Later values win over earlier ones.

        Raises:
            StarctlError: helm refuses the values or the operator does not become ready; helm's words are in it.
        """
        command = self.command(kubeconfig, values)
        with self.reporter.step(f"operator in namespace {NAMESPACE}"):
            self._run(command)

    def command(self, kubeconfig: Path, values: Sequence[Path]) -> list[str]:
        """The helm command, without a secret in it: the store's credentials are never Helm values."""
        options = ["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", _READY]
        files = [part for path in values for part in ("--values", str(path))]
        # Whoever applied a field before, the chart owns it from now on.
        conflicts = "--force-conflicts"
        chart = str(self.root / CHART)
        head = [str(self.helm), "upgrade", "--install", RELEASE, chart, "--kubeconfig", str(kubeconfig)]
        return [*head, *options, conflicts, *files]

    def _run(self, command: list[str]) -> None:
        seconds = int(_READY.removesuffix("m")) * 60 + _GRACE_SECONDS
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise StarctlError(f"helm upgrade did not end within {seconds} s") from error
        if done.returncode != 0:
            tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_LAST_LINES:])
            raise StarctlError(
                f"the operator could not be installed: {tail}\n"
                f"Look at its pod: kubectl -n {NAMESPACE} describe pods -l app.kubernetes.io/name={RELEASE}"
            )
