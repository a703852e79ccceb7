"""`starctl checkpoint import` and `export`: over the jobs' own code, on a machine that reaches the store.

Credentials are those that boto3 finds: the environment, a profile, or the machine's role. Nothing runs in the cluster
but for a GGUF file, which the trainer's image converts.
"""

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from star_cli.checkpoints import record
from star_cli.demo.cli import Kubeconfig, Name, Namespace
from star_cli.errors import StarctlError
from star_cli.local.paths import DEFAULT_NAME
from star_cli.resources import collection
from star_contracts.artifact import ArtifactRef
from star_contracts.job import Store
from star_operator.api.checkpoint import Checkpoint, CheckpointSpec, Lineage

if TYPE_CHECKING:
    from star_cli.local.kubeapi import KubeApi
    from star_jobs.models.transfer import Home
    from star_jobs.storage import ObjectStore

app = typer.Typer(no_args_is_help=True, help="Models into a store and out of it, with their digests and proofs.")
StoreUri = Annotated[
    str | None, typer.Option("--store", help="s3://bucket[/prefix]; default: the store of the cluster's operator.")
]
Endpoint = Annotated[str | None, typer.Option("--endpoint", help="The store's URL as this machine sees it.")]
Profile = Annotated[str | None, typer.Option("--profile", help="Profile of the AWS configuration, for the store.")]
GGUF = ".gguf"


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(help="A model's folder, an exported one, hf://org/name[@revision], or a .gguf")
    ],
    checkpoint: Annotated[str, typer.Argument(help="Name of the Checkpoint.")],
    namespace: Namespace = "default",
    store: StoreUri = None,
    endpoint: Endpoint = None,
    profile: Profile = None,
    apply: Annotated[bool, typer.Option("--apply", help="Create the Checkpoint; without it, print it.")] = False,
    kubeconfig: Kubeconfig = None,
    name: Name = DEFAULT_NAME,
) -> None:
    """Write a model into the store as an artifact, and print its Checkpoint."""
    target = Target(store, endpoint, profile, kubeconfig, name)
    if source.endswith(GGUF):
        body = _import_gguf(Path(source), (namespace, checkpoint), target)
    else:
        with failures():
            body = _import(source, target.home(namespace, checkpoint))
    if apply:
        with target.cluster() as api:
            _create(api, body)
    typer.echo(record.as_yaml(body), nl=False)


@app.command("export")
def export_(
    checkpoint: Annotated[str, typer.Argument(help="Name of the Checkpoint.")],
    destination: Annotated[str, typer.Argument(help="A folder, or s3://bucket[/prefix] of another store.")],
    namespace: Namespace = "default",
    store_endpoint: Endpoint = None,
    profile: Profile = None,
    to_namespace: Annotated[str | None, typer.Option("--to-namespace", help="Namespace over there.")] = None,
    to_endpoint: Annotated[str | None, typer.Option("--to-endpoint", help="The other store's URL.")] = None,
    to_profile: Annotated[str | None, typer.Option("--to-profile", help="Profile for the other store.")] = None,
    kubeconfig: Kubeconfig = None,
    name: Name = DEFAULT_NAME,
) -> None:
    """Bring a checkpoint with its proofs into a folder or another store; print its Checkpoint for over there."""
    target = Target(None, store_endpoint, profile, kubeconfig, name)
    with target.cluster() as api:
        spec = _spec(api, namespace, checkpoint)
    ref = ArtifactRef(uri=spec.uri, digest=spec.digest)
    with failures():
        if destination.startswith("s3://"):
            other = Target(destination, to_endpoint, to_profile, kubeconfig, name)
            home = other.home(to_namespace or namespace, checkpoint)
            from star_jobs.models.transfer import copy

            moved, count = copy(target.store(), ref, home)
        else:
            from star_jobs.models.transfer import export

            moved, count = ref, export(target.store(), ref, Path(destination))
    found = record.manifest((to_namespace or namespace, checkpoint), moved, spec.lineage, f"{ref.uri}@{ref.digest}")
    if not destination.startswith("s3://"):
        record.write(found, Path(destination))
    typer.echo(record.as_yaml(found), nl=False)
    typer.echo(f"{count} proof{'s' if count != 1 else ''} went with it", err=True)


@app.command("verify")
def verify_(
    checkpoint: Annotated[str, typer.Argument(help="Name of the Checkpoint.")],
    key: Annotated[list[Path], typer.Option("--key", help="Public key in PEM; more than one may be given.")],
    threshold: Annotated[int, typer.Option("--threshold", min=1, help="How many of the keys must have signed it.")] = 1,
    namespace: Namespace = "default",
    store_endpoint: Endpoint = None,
    profile: Profile = None,
    kubeconfig: Kubeconfig = None,
    name: Name = DEFAULT_NAME,
) -> None:
    """Hold a checkpoint's files, card and signatures against their digests, as a StarDeployment would."""
    import threading

    from star_contracts.proofs import PublicKey, SignatureRule, VerifySpec
    from star_jobs.proofs.verify import run_verify

    target = Target(None, store_endpoint, profile, kubeconfig, name)
    keys = tuple(PublicKey(name=path.stem, pem=path.read_text()) for path in key if path.is_file())
    if len(keys) < len(key):
        missing = ", ".join(str(path) for path in key if not path.is_file())
        raise StarctlError(f"--key: there is no file {missing}; `starctl checkpoint new-key` makes a pair")
    with target.cluster() as api:
        spec = _spec(api, namespace, checkpoint)
    ref = ArtifactRef(uri=spec.uri, digest=spec.digest)
    with failures():
        rule = SignatureRule(keys=keys, threshold=threshold)
        claim = VerifySpec(store=target.connection(), checkpoint=ref, signatures=rule)
        run_verify(claim, target.store(), threading.Event())
    typer.echo(f"{ref.digest} is whole, and signed as asked")


@app.command("new-key")
def new_key(
    folder: Annotated[Path, typer.Argument(help="Where the pair is written.", file_okay=False)] = Path(),
) -> None:
    """Make a pair of keys: signing.key, for the Secret that signs, and signing.pub, for those who verify."""
    from star_cli.checkpoints.keys import write_pair

    typer.echo("\n".join(str(path) for path in write_pair(folder)))


class Target:
    """A store, as the command line or the cluster's operator names it."""

    def __init__(
        self, uri: str | None, endpoint: str | None, profile: str | None, kubeconfig: Path | None, name: str
    ) -> None:
        self._uri, self._endpoint, self._profile = uri, endpoint, profile
        self._kubeconfig, self._name = kubeconfig, name

    @contextmanager
    def cluster(self) -> "Iterator[KubeApi]":
        """Talk to the cluster."""
        from star_cli.local.cluster import LocalCluster
        from star_cli.local.kubeapi import KubeApi

        with closing(KubeApi(self._kubeconfig or LocalCluster(self._name).kubeconfig, timeout=30.0)) as api:
            yield api

    def settings(self) -> Any:
        """Return the settings of the cluster's operator."""
        from star_cli.demo.importing import installed_settings

        with self.cluster() as api:
            return installed_settings(api)

    def connection(self) -> Store:
        """Return how the store is reached; a store that is named needs no cluster."""
        if self._uri is not None:
            return Store(endpoint=self._endpoint)
        found: Store = self.settings().store.connection
        return found.model_copy(update={"endpoint": self._endpoint}) if self._endpoint else found

    def store(self) -> "ObjectStore":
        """Return the store."""
        from star_jobs.storage import ObjectStore

        return ObjectStore(self.connection(), profile=self._profile)

    def root(self) -> str:
        """Return `s3://bucket[/prefix]`."""
        return self._uri.rstrip("/") if self._uri is not None else str(self.settings().store.uri)

    def home(self, namespace: str, checkpoint: str) -> "Home":
        """Return where a checkpoint goes."""
        from star_jobs.models.transfer import Home

        return Home(self.store(), self.root(), namespace, checkpoint)


@contextmanager
def failures() -> Iterator[None]:
    """Turn what the jobs' code raises into the command line's error."""
    from star_jobs.errors import JobFailure

    try:
        yield
    except JobFailure as failure:
        raise StarctlError(failure.message) from failure


def _import(source: str, home: "Home") -> dict[str, Any]:
    from star_cli.checkpoints.hub import download
    from star_jobs.models.transfer import import_exported, import_model, is_exported

    place = (home.namespace, home.name)
    if source.startswith("hf://"):
        with tempfile.TemporaryDirectory() as folder:
            model = download(source.removeprefix("hf://"), Path(folder))
            return record.manifest(place, import_model(Path(folder), home), Lineage(), f"hf://{model}")
    folder_ = Path(source)
    if not folder_.is_dir():
        raise StarctlError(
            f"{source} is no folder; give a model's folder, hf://org/name, or a file that ends in {GGUF}"
        )
    if is_exported(folder_):
        ref = import_exported(folder_, home)
        return record.manifest(place, ref, record.lineage_of(folder_, ref.digest))
    return record.manifest(place, import_model(folder_, home), Lineage())


def _import_gguf(file: Path, place: tuple[str, str], target: Target) -> dict[str, Any]:
    """Have the cluster convert a GGUF file: vLLM's servers load Hugging Face folders, and this machine has no torch."""
    from star_cli.checkpoints.gguf import convert

    with failures(), target.cluster() as api:
        ref, digest = convert(file, place, target.store(), target.settings(), api)
    return record.manifest(place, ref, Lineage(inputs={"source": digest}), file.name)


def _spec(api: "KubeApi", namespace: str, name: str) -> CheckpointSpec:
    body = api.get(f"{collection(Checkpoint.INFO.plural, namespace)}/{name}")
    if body is None:
        raise StarctlError(f"there is no Checkpoint {name} in namespace {namespace}; `kubectl get ckpt -A` lists all")
    return Checkpoint.parse(body).spec


def _create(api: "KubeApi", body: dict[str, Any]) -> None:
    meta = body["metadata"]
    there = api.get(f"{collection(Checkpoint.INFO.plural, meta['namespace'])}/{meta['name']}")
    if there is not None and there["spec"]["digest"] != body["spec"]["digest"]:
        text = f"Checkpoint {meta['name']} is there and records {there['spec']['digest']}, not {body['spec']['digest']}"
        raise StarctlError(f"{text}; a Checkpoint never changes: choose another name, or delete it")
    if there is None:
        api.apply(body)
