"""The repository layout that ships, in a real forge, applied by a real Argo CD: what people do with it in a line."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from star_cli.local.pki import CertificateAuthority, Subject
from tests.support.argocd import NAMESPACE, ArgoCD, run_argocd
from tests.support.gitea import Gitea, User, run_gitea
from tests.support.kubectl import Kubectl

LAYOUT = Path(__file__).resolve().parents[2] / "manifests" / "gitops"
WRITTEN_URL = "https://git.example.com/team/recommender.git"
"""What the layout calls its repository."""
ENVIRONMENTS = {"dev": "recommender-dev", "prod": "recommender-prod"}
"""Environment -> its namespace."""
PROMOTIONS = "recommender"
"""The namespace of promotions and of what they promote."""
LIVE = "recommender"
"""Name of the StarDeployment in each environment."""


@dataclass
class Site:
    """A forge with the layout in it, and an Argo CD that applies it."""

    kubectl: Kubectl
    forge: Gitea
    argocd: ArgoCD
    owner: User
    repository: str
    """`owner/name`."""
    url: str
    folder: Path
    """A clone, in which people work."""

    def pin(self, environment: str, uri: str, digest: str) -> str:
        """Commit and push a digest by hand; the commit."""
        self.pull()
        path = self.folder / environment / "checkpoint.yaml"
        text = re.sub(r"(?m)^( +uri:) .*$", rf"\1 {uri}", path.read_text())
        path.write_text(re.sub(r"(?m)^( +digest:) .*$", rf"\1 {digest}", text))
        return self.forge.push(self.owner, self.url, self.folder)

    def pinned(self, environment: str) -> str:
        """The digest that stands on the branch."""
        text = self.forge.content(self.owner, self.repository, f"{environment}/checkpoint.yaml")
        return str(yaml.safe_load(text)["spec"]["checkpoint"]["digest"])

    def revert(self, commit: str, *, merged: bool = False) -> str:
        """`git revert` of a commit, or of a pull request's merge, pushed; the new commit."""
        self.pull()
        side = ("--mainline", "1") if merged else ()
        self.forge.git(self.owner, self.folder, "revert", "--no-edit", *side, commit)
        self.forge.git(self.owner, self.folder, "push", "--quiet", self.url, "HEAD:main")
        return self.forge.git(self.owner, self.folder, "rev-parse", "HEAD").strip()

    def pull(self) -> None:
        """Have what others have pushed."""
        self.forge.git(self.owner, self.folder, "pull", "--quiet", "--ff-only", self.url, "main")

    def adapt(self, path: str, change: Callable[[Any], None]) -> str:
        """Edit one manifest of the layout as its owner would, and push; the commit."""
        self.pull()
        manifest = yaml.safe_load((self.folder / path).read_text())
        change(manifest)
        (self.folder / path).write_text(yaml.safe_dump(manifest, sort_keys=False))
        return self.forge.push(self.owner, self.url, self.folder)

    def apply_applications(self, *environments: str) -> None:
        """Tell Argo CD of environments, by the layout's own manifests."""
        wanted = {application(one) for one in environments}
        for one in yaml.safe_load_all((self.folder / "argocd" / "applications.yaml").read_text()):
            if one["metadata"]["name"] in wanted:
                one["metadata"]["namespace"] = NAMESPACE
                self.kubectl.apply(one)

    def live(self, environment: str) -> dict[str, Any]:
        """The environment's StarDeployment."""
        return self.kubectl.get("stardeployment", LIVE, ENVIRONMENTS[environment])

    def serving(self, environment: str) -> str:
        """The digest that takes the traffic there; nothing where nothing does yet."""
        rows = self.kubectl.list("stardeployments", ENVIRONMENTS[environment])
        return "".join(str(row.get("status", {}).get("servingDigest", "")) for row in rows)

    def act(self, environment: str, action: str) -> None:
        """Run one of our actions in Argo CD, as its page's menu does."""
        resource = ("--kind", "StarDeployment", "--resource-name", LIVE, "--namespace", ENVIRONMENTS[environment])
        self.argocd.cli("app", "actions", "run", application(environment), action, *resource)


def application(environment: str) -> str:
    """The name of an environment's Application."""
    return f"recommender-{environment}"


@contextmanager
def open_site(folder: Path, kubeconfig: Path, *, server_side_diff: bool = False) -> Iterator[Site]:
    """Forge and Argo CD beside a cluster, at the address that its API server has, with the layout on branch main."""
    server = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    address = httpx.URL(server).host
    authority = CertificateAuthority(folder / "pki", "forge-ca")
    certificate = authority.issue("gitea", Subject("gitea", hosts=(address,)))
    trusted = authority.pair.certificate
    with (
        run_gitea(folder / "gitea", address, certificate, trusted) as forge,
        run_argocd(folder / "argocd", kubeconfig, server_side_diff=server_side_diff) as argocd,
    ):
        owner = forge.create_user("team")
        work = folder / "work"
        shutil.copytree(LAYOUT, work)
        url = f"{forge.url}/team/recommender.git"
        for path in work.rglob("*.yaml"):
            path.write_text(path.read_text().replace(WRITTEN_URL, url))
        forge.create_repository(owner, "recommender", work)
        argocd.add_repository(url, owner, trusted)
        forge.add_webhook(owner, "team/recommender", argocd.webhook)
        yield Site(Kubectl(kubeconfig), forge, argocd, owner, "team/recommender", url, work)
