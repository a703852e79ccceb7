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
_IN_PROGRESS = "another operation"


@dataclass(frozen=True)
class Chart:
    """The chart of one checkout, and the programs to install it with."""

    root: Path
    """The repository."""
    helm: Path
    reporter: Reporter = field(default_factory=Silent)

    def install(self, kubeconfig: Path, values: Sequence[Path]) -> None:
        """Install or upgrade the operator, and wait until it is ready. Later values win over earlier ones.

        A release that an earlier, killed command left half-way is made way for.

        Raises:
            StarctlError: helm refuses the values or the operator does not become ready; helm's words are in it.
        """
        command = self.command(kubeconfig, values)
        with self.reporter.step(f"operator in namespace {NAMESPACE}", "operator"):
            done = self._helm(command)
            if done.returncode != 0 and _IN_PROGRESS in done.stderr:
                self._unblock(kubeconfig)
                done = self._helm(command)
        if done.returncode != 0:
            tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_LAST_LINES:])
            raise StarctlError(
                f"the operator could not be installed: {tail}\n"
                f"Look at its pod: kubectl -n {NAMESPACE} describe pods -l app.kubernetes.io/name={RELEASE}"
            )

    def command(self, kubeconfig: Path, values: Sequence[Path]) -> list[str]:
        """The helm command, without a secret in it: the store's credentials are never Helm values."""
        options = ["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", _READY]
        files = [part for path in values for part in ("--values", str(path))]
        # Whoever applied a field before, the chart owns it from now on.
        conflicts = "--force-conflicts"
        chart = str(self.root / CHART)
        head = [str(self.helm), "upgrade", "--install", RELEASE, chart, "--kubeconfig", str(kubeconfig)]
        return [*head, *options, conflicts, *files]

    def _unblock(self, kubeconfig: Path) -> None:
        """Take back what helm believes to be under way: a first installation whole, an upgrade to what was before."""
        place = ["--namespace", NAMESPACE, "--kubeconfig", str(kubeconfig)]
        status = self._helm([str(self.helm), "status", RELEASE, "--output", "json", *place])
        first = '"pending-install"' in status.stdout
        self._helm([str(self.helm), "uninstall" if first else "rollback", RELEASE, "--wait", *place])

    def _helm(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        seconds = int(_READY.removesuffix("m")) * 60 + _GRACE_SECONDS
        try:
            return subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise StarctlError(f"helm {command[1]} did not end within {seconds} s") from error
