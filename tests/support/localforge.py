"""A forge without HTTP: pull requests in a file beside a bare repository, merged by the real git program.

In the way of what promotions ask of forges (`ForgeApi`); what the real ones' APIs look like is tried by `fakeforge`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_contracts.promotion import PromotionState, PullRequest
from star_jobs.promote.forge import Request
from tests.support.gitrepos import BareRepository


@dataclass
class LocalForge:
    repository: BareRepository

    @property
    def _file(self) -> Path:
        return self.repository.path / "requests.json"

    def all(self) -> list[dict[str, Any]]:
        return json.loads(self._file.read_text()) if self._file.exists() else []

    def _save(self, items: list[dict[str, Any]]) -> None:
        self._file.write_text(json.dumps(items))

    def _change(self, number: int, **changes: Any) -> Request:
        items = self.all()
        items[number - 1] |= changes
        self._save(items)
        return self.get(number)

    def find(self, head: str, base: str) -> Request | None:
        numbers = [item["number"] for item in self.all() if (item["head"], item["base"]) == (head, base)]
        return self.get(max(numbers)) if numbers else None

    def get(self, number: int) -> Request:
        item = self.all()[number - 1]
        ref = PullRequest(number=number, url=f"https://forge/{number}", state=item["state"])
        return Request(ref, item["title"], item["body"], item.get("commit"))

    def create(self, head: str, base: str, title: str, body: str) -> Request:
        items = self.all()
        assert all((item["head"], item["state"]) != (head, "Open") for item in items), "a second one of its branch"
        number = len(items) + 1
        items.append({"number": number, "head": head, "base": base, "title": title, "body": body, "state": "Open"})
        self._save(items)
        return self.get(number)

    def update(self, number: int, title: str, body: str) -> Request:
        return self._change(number, title=title, body=body)

    def close(self, number: int, reason: str) -> Request:
        return self._change(number, state=PromotionState.CLOSED, reason=reason)

    def merge(self, number: int) -> bool:
        """Merge as a button does; False where there is a conflict."""
        item, git = self.all()[number - 1], self.repository.git
        head = git("rev-parse", item["head"]).strip()
        code, tree = self.repository.try_git("merge-tree", "--write-tree", item["base"], head)
        if code != 0:
            return False
        parents = ("-p", self.repository.tip(item["base"]), "-p", head)
        commit = git("commit-tree", *parents, "-m", f"Merge {item['head']}", tree.split()[0]).strip()
        git("update-ref", f"refs/heads/{item['base']}", commit)
        self._change(number, state=PromotionState.MERGED, commit=commit)
        return True
