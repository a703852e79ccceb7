"""The way of a digest through the environments, as Git, the forge, Argo CD and the cluster show it."""

from dataclasses import dataclass
from typing import Any

from tests.support.gitops import Site, application
from tests.support.kubectl import eventually
from tests.support.star import ready_message


@dataclass
class Way:
    """What is waited for, and for how long at most."""

    site: Site
    seconds: float = 240.0

    def serves(self, environment: str, digest: str) -> None:
        """Wait until an environment serves a digest, and Argo CD calls it healthy."""
        text = f"{environment} serves {digest}"
        try:
            eventually(lambda: self.site.serving(environment) == digest, text, seconds=self.seconds)
        except AssertionError as error:
            live = self.site.live(environment)
            wanted, says = live["spec"]["checkpoint"]["digest"], ready_message(live.get("status", {}))
            raise AssertionError(f"{error}; it is told to serve {wanted}, and says {says!r}") from None
        self.site.argocd.wait(application(environment), health="Healthy", seconds=self.seconds)

    def committed(self, environment: str, digest: str) -> dict[str, Any]:
        """Wait until the digest stands on the branch; the commit that moved it, one and no more."""
        text = f"{environment} is pinned to {digest}"
        eventually(lambda: self.site.pinned(environment) == digest, text, seconds=self.seconds)
        commits = self.site.forge.commits(self.site.owner, self.site.repository)
        trailers = {f"Star-Digest: {digest}", f"Star-Environment: {environment}"}
        (found,) = (one for one in commits if trailers <= set(one["commit"]["message"].splitlines()))
        return dict(found)

    def asked(self, digest: str) -> dict[str, Any]:
        """Wait for the pull request of a digest; there is one and no more."""
        site = self.site

        def there() -> list[dict[str, Any]]:
            return [one for one in site.forge.pull_requests(site.owner, site.repository) if digest in one["body"]]

        eventually(lambda: bool(there()), f"a pull request for {digest}", seconds=self.seconds)
        (found,) = there()
        return found

    def merged(self, number: int) -> str:
        """Merge a pull request; the merge commit."""
        site = self.site
        site.forge.merge(site.owner, site.repository, number)
        found = site.forge.call("GET", f"/repos/{site.repository}/pulls/{number}", site.owner)
        return str(found["merge_commit_sha"])
