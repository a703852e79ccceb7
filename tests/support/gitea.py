"""A real forge: Gitea over HTTPS with SQLite, its users, repositories, pull requests and webhooks by its API.

https://docs.gitea.com/api/1.26/
"""

import base64
import os
import re
import secrets
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from star_cli.local import ports
from star_cli.local.binaries import Binaries
from star_cli.local.pki import KeyPair
from star_cli.local.processes import Processes, ProcessSpec
from star_cli.local.versions import GITEA
from tests.support.gomodule import module_folder
from tests.support.kubectl import eventually

_READY_SECONDS = 120.0
_TOKEN = re.compile(r"^[0-9a-f]{40}$", re.MULTILINE)
_CONFIG = """\
APP_NAME = forge
RUN_MODE = prod
WORK_PATH = {folder}
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true

[server]
PROTOCOL = https
HTTP_ADDR = {address}
HTTP_PORT = {port}
DOMAIN = {address}
ROOT_URL = {url}/
CERT_FILE = {certificate}
KEY_FILE = {key}
STATIC_ROOT_PATH = {static}
OFFLINE_MODE = true
DISABLE_SSH = true
LFS_START_SERVER = false

[database]
DB_TYPE = sqlite3
PATH = {folder}/gitea.db

[security]
INSTALL_LOCK = true
SECRET_KEY = {secret}
PASSWORD_HASH_ALGO = pbkdf2_v2

[service]
DISABLE_REGISTRATION = true
REQUIRE_SIGNIN_VIEW = true

[webhook]
ALLOWED_HOST_LIST = *
DELIVER_TIMEOUT = 10

[indexer]
ISSUE_INDEXER_TYPE = db

[session]
PROVIDER = memory

[actions]
ENABLED = false

[log]
MODE = console
LEVEL = Warn
"""


@dataclass(frozen=True)
class User:
    """Somebody with an account."""

    name: str
    password: str
    token: str

    @property
    def git_environment(self) -> dict[str, str]:
        """What lets the real `git` in as this user: a header, so that nothing stands in arguments or files."""
        basic = base64.b64encode(f"{self.name}:{self.token}".encode()).decode()
        pairs = {"http.extraHeader": f"Authorization: Basic {basic}"}
        return {
            "GIT_CONFIG_COUNT": str(len(pairs)),
            **{f"GIT_CONFIG_KEY_{index}": key for index, key in enumerate(pairs)},
            **{f"GIT_CONFIG_VALUE_{index}": value for index, value in enumerate(pairs.values())},
        }


@dataclass
class Gitea:
    """A running forge."""

    url: str
    folder: Path
    authority: Path
    """The certificate authority in PEM that its certificate is from."""
    root: User | None = None

    @property
    def trust(self) -> ssl.SSLContext:
        """What a client of it trusts: that authority alone."""
        return ssl.create_default_context(cafile=str(self.authority))

    def create_user(self, name: str) -> User:
        """A user with a token for everything that is theirs."""
        password = secrets.token_urlsafe(16)
        body = {"username": name, "email": f"{name}@example.com", "password": password, "must_change_password": False}
        self.call("POST", "/admin/users", self._root, json=body)
        with self._client(auth=(name, password)) as client:
            made = client.post(f"/users/{name}/tokens", json={"name": "tests", "scopes": ["all"]})
        return User(name, password, str(_checked(made)["sha1"]))

    def create_repository(self, owner: User, name: str, folder: Path | None = None) -> str:
        """An empty repository, or one with a first commit of a folder's files on branch main. Returns its URL."""
        self.call("POST", "/user/repos", owner, json={"name": name, "private": True, "default_branch": "main"})
        url = f"{self.url}/{owner.name}/{name}.git"
        if folder is not None:
            self.push(owner, url, folder)
            described = f"/repos/{owner.name}/{name}"  # a push is answered before the forge has taken note of it
            eventually(lambda: not self.call("GET", described, owner)["empty"], f"{name} has its first commit")
        return url

    def push(self, user: User, url: str, folder: Path) -> str:
        """Make a repository of a folder where it is none, commit all that is new in it, push to main; the commit."""
        if not (folder / ".git").exists():
            self.git(user, folder, "init", "--quiet", "--initial-branch", "main")
        self.git(user, folder, "add", "--all")
        self.git(user, folder, "commit", "--quiet", "--message", "layout")
        self.git(user, folder, "push", "--quiet", url, "HEAD:main")
        return self.git(user, folder, "rev-parse", "HEAD").strip()

    def git(self, user: User, folder: Path, *arguments: str) -> str:
        """The real git as a user, in a folder."""
        who = {"GIT_AUTHOR_NAME": user.name, "GIT_AUTHOR_EMAIL": f"{user.name}@example.com"}
        who |= {key.replace("AUTHOR", "COMMITTER"): value for key, value in who.items()}
        env = {**os.environ, **who, **user.git_environment, "GIT_SSL_CAINFO": str(self.authority)}
        env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
        command = [str(Binaries().ensure("git")), *arguments]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"git {arguments[0]}: {done.stderr}"
        return done.stdout

    def content(self, user: User, repository: str, path: str, ref: str = "main") -> str:
        """A file of a branch or commit; `repository` is owner/name."""
        with self._client(user) as client:
            answer = client.get(f"/repos/{repository}/raw/{path}", params={"ref": ref})
        assert answer.status_code == 200, answer.text
        return answer.text

    def commits(self, user: User, repository: str, branch: str = "main") -> list[dict[str, Any]]:
        """The commits of a branch, the latest first."""
        found: list[dict[str, Any]] = self.call("GET", f"/repos/{repository}/commits?sha={branch}&limit=50", user)
        return found

    def pull_requests(self, user: User, repository: str, state: str = "open") -> list[dict[str, Any]]:
        """The pull requests of a repository."""
        found: list[dict[str, Any]] = self.call("GET", f"/repos/{repository}/pulls?state={state}", user)
        return found

    def merge(self, user: User, repository: str, number: int) -> None:
        """Merge a pull request, as a person does with the button."""
        self.call("POST", f"/repos/{repository}/pulls/{number}/merge", user, json={"Do": "merge"})

    def add_webhook(self, user: User, repository: str, url: str) -> None:
        """Tell a URL of every push, in the form that Argo CD reads."""
        body = {"type": "gogs", "active": True, "events": ["push"], "config": {"url": url, "content_type": "json"}}
        self.call("POST", f"/repos/{repository}/hooks", user, json=body)

    def call(self, method: str, path: str, user: User, **options: Any) -> Any:
        """One call of the API; its answer as JSON."""
        with self._client(user) as client:
            return _checked(client.request(method, path, **options))

    @property
    def _root(self) -> User:
        assert self.root is not None
        return self.root

    def _client(self, user: User | None = None, **options: Any) -> httpx.Client:
        headers = {"Authorization": f"token {user.token}"} if user is not None else {}
        return httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, verify=self.trust, timeout=60, **options)


def _checked(answer: httpx.Response) -> Any:
    assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
    return answer.json() if answer.content else None


@contextmanager
def run_gitea(folder: Path, address: str, certificate: KeyPair, authority: Path) -> Iterator[Gitea]:
    """A forge that listens on `address` with this certificate, until the end of the block."""
    port = ports.pick(("gitea",), address)["gitea"]
    forge = Gitea(f"https://{address}:{port}", folder, authority)
    config = folder / "app.ini"
    folder.mkdir(parents=True, exist_ok=True)
    text = _CONFIG.format(
        folder=folder,
        address=address,
        port=port,
        url=forge.url,
        certificate=certificate.certificate,
        key=certificate.key,
        static=module_folder("code.gitea.io/gitea", GITEA),
        secret=secrets.token_hex(32),
    )
    config.write_text(text)
    program = str(Binaries().ensure("gitea"))
    environment = {"HOME": str(folder), "GITEA_WORK_DIR": str(folder)}
    _gitea(environment, config, "migrate")
    processes = Processes(folder / "records", folder / "logs")
    spec = ProcessSpec("gitea", (program, "--config", str(config), "web"), env=environment, ends_with_parent=True)
    processes.ensure(spec)
    try:
        processes.wait_ready("gitea", lambda: _answers(forge), _READY_SECONDS)
        forge.root = _administrator(environment, config)
        yield forge
    finally:
        processes.stop("gitea")


def _gitea(environment: dict[str, str], config: Path, *arguments: str) -> str:
    command = [str(Binaries().ensure("gitea")), "--config", str(config), *arguments]
    env = {**os.environ, **environment}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_READY_SECONDS)
    assert done.returncode == 0, f"gitea {arguments[0]}: {done.stdout}{done.stderr}"
    return done.stdout


def _administrator(environment: dict[str, str], config: Path) -> User:
    name, password = "root", secrets.token_urlsafe(16)
    who = ("--username", name, "--password", password, "--email", "root@example.com")
    _gitea(environment, config, "admin", "user", "create", *who, "--admin", "--must-change-password=false")
    token = ("--username", name, "--token-name", "tests", "--scopes", "all", "--raw")
    said = _gitea(environment, config, "admin", "user", "generate-access-token", *token)
    (found,) = _TOKEN.findall(said)  # among lines of its log, which come in any order
    return User(name, password, found)


def _answers(forge: Gitea) -> bool:
    try:
        return httpx.get(f"{forge.url}/api/healthz", verify=forge.trust, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
