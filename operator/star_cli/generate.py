"""Rewrite what is generated: CRDs, values schema, pages, kustomize configuration, rendered install.

Run by `make generate` in the root.
"""

import subprocess
import sys
from pathlib import Path

from star_cli.local.binaries import Binaries
from star_operator.api import approvals, argocd, crd, kustomize, reference, troubleshooting, values
from star_operator.api.kinds import KINDS

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "star-operator"
INSTALL_HEAD = """\
# The operator without Helm, in namespace star-system: the chart with its default values, rendered by `make generate`.
#   kubectl apply --server-side -f manifests/install.yaml
# Set the store and the images to yours first (ConfigMap star-operator, Deployment star-operator), or use the chart.
apiVersion: v1
kind: Namespace
metadata:
  name: star-system
"""


def pure_files() -> dict[Path, str]:
    """Return what follows from the models alone, by path relative to the root."""
    crds = {
        Path(f"charts/star-operator/resources/crds/{crd.file_stem(kind.INFO)}.yaml"): crd.render(kind) for kind in KINDS
    }
    schema = {Path("charts/star-operator/values.schema.json"): values.render()}
    guard = {Path("charts/star-operator/resources/approvals.yaml"): approvals.render()}
    pages = {
        Path("docs/reference.md"): reference.render(),
        Path("docs/troubleshooting.md"): troubleshooting.render(),
    }
    renaming = {Path("manifests/kustomize") / name: text for name, text in kustomize.files().items()}
    gitops = {
        Path("charts/star-operator/resources/argocd/customizations.yaml"): argocd.render_data(),
        Path("manifests/gitops/argocd/argocd-cm.yaml"): argocd.render(),
    }
    return crds | schema | guard | pages | renaming | gitops


def install_manifest() -> str:
    """Return the chart with its default values, as one file; the chart on disk must be up to date.

    Raises LocalClusterError when there is no helm, CalledProcessError when the chart does not render.
    """
    command = [str(Binaries().ensure("helm")), "template", "star-operator", str(CHART)]
    command += ["--namespace", "star-system", "--no-hooks"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return INSTALL_HEAD + done.stdout


def main() -> None:
    """Write everything, and print what changed."""
    for path, text in pure_files().items():
        _write(path, text)
    _write(Path("manifests/install.yaml"), install_manifest())


def _write(path: Path, text: str) -> None:
    target = ROOT / path
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        sys.stdout.write(f"wrote {path}\n")


if __name__ == "__main__":
    main()
