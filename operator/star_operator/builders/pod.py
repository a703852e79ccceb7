"""Pods: one shape for every container this operator starts.

Every pod satisfies the `restricted` Pod Security Standard (kubernetes.io, `Pod Security Standards`): not root, no
capabilities, no privilege escalation, RuntimeDefault seccomp; besides, a read-only root and no API token. Writable are
/tmp and /work (emptyDir) and /dev/shm (memory). Everything to read is one projected volume at /etc/star: the
ConfigMap's files and, under `keys/`, the API keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from star_contracts.names import CA_FILE, CA_VARIABLES, SPEC_DIR, WORK_DIR
from star_contracts.progress import TOKEN_AUDIENCE, TOKEN_PATH
from star_operator.api.common import Compute, PodTemplate, SecretKeyRef
from star_operator.builders.placement import image_of, pool_of, resources, scheduling
from star_operator.core.labels import EGRESS_LABEL, INSIDE, OUTSIDE
from star_operator.core.objects import KubeObject, compact
from star_operator.core.podmeta import USER, PodDefaults, PodSecurity
from star_operator.core.settings import STORE_KEYS, STORE_TOKEN, Pool, Settings

MAIN = "main"
TOKEN_SECONDS = 3600
KEYS_DIR = f"{SPEC_DIR}/keys"
FILE_MODE = 0o440


@dataclass(frozen=True)
class FieldRef:
    """An environment variable from the pod's own metadata (downward API)."""

    path: str


@dataclass(frozen=True)
class OptionalKey:
    """An environment variable from a key that a Secret may have."""

    secret: str
    key: str


EnvValue = str | FieldRef | SecretKeyRef | OptionalKey


@dataclass(frozen=True)
class Container:
    """What one container runs."""

    role: str
    """Image role: `jobs`, `trainer`, `rollout`, `vllm`, `gateway` or `git`."""
    command: tuple[str, ...]
    args: tuple[str, ...] = ()
    env: Mapping[str, EnvValue] = field(default_factory=dict)
    """Wins over the pool's environment."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """The pool's environment wins over these."""
    store_access: bool = False
    """Whether it gets the store's credentials."""
    store_secret: str = ""
    """The Secret with these, where it is not that of all pods."""
    name: str = MAIN
    ports: Mapping[str, int] = field(default_factory=dict)
    extra: KubeObject = field(default_factory=dict)
    """Probes and life-cycle hooks."""


@dataclass(frozen=True)
class PodPlan:
    """What a pod consists of; the rest follows from its pool."""

    main: Container
    compute: Compute
    labels: Mapping[str, str]
    config_map: str | None = None
    """ConfigMap whose keys appear as files in /etc/star; with private certificate authorities each pod needs one."""
    pool_field: str = "spec.compute.pool"
    """The field a person would change, for errors about the pool."""
    init: tuple[Container, ...] = ()
    api_keys: Mapping[str, SecretKeyRef] = field(default_factory=dict)
    """Secrets that appear as files `key_path(name)`."""
    optional_keys: Mapping[str, SecretKeyRef] = field(default_factory=dict)
    """The same, where the Secret and its key are there."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Secrets that are mounted whole, by folder: each key is a file there."""
    group: Mapping[str, str] = field(default_factory=dict)
    """Labels of the pods this one works with as a group; it is placed near them."""
    subdomain: str | None = None
    """Headless Service that names the pods of the group."""
    outside: bool = False
    """Whether it goes further than to the store, the operator and the servers of its namespace."""
    operator_token: bool = False
    """Whether it gets a token to report progress with."""
    restart_policy: str = "Always"
    grace_seconds: int = 30


def key_path(name: str) -> str:
    """Return where the API key of that name is mounted."""
    return f"{KEYS_DIR}/{name}"


def pod_template(plan: PodPlan, settings: Settings) -> KubeObject:
    """Return a pod template (core/v1 PodTemplateSpec).

    Raises InvalidSpec when the pool is unknown or has no images.
    """
    pool = pool_of(plan.compute.pool, settings, plan.pool_field)
    carried = _carried(plan, pool, settings)
    spec = {
        "restartPolicy": plan.restart_policy,
        "terminationGracePeriodSeconds": plan.grace_seconds,
        "serviceAccountName": carried.service_account_name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "subdomain": plan.subdomain,
        "securityContext": _pod_security(settings.pod_security),
        "imagePullSecrets": _pull_secrets(plan, settings),
        **scheduling(plan.compute, pool, dict(plan.group)),
        "initContainers": [_container(plan, init, settings) for init in plan.init],
        "containers": [_container(plan, plan.main, settings)],
        "volumes": _volumes(plan, pool.shm_size),
    }
    way = {EGRESS_LABEL: OUTSIDE if plan.outside else INSIDE}
    metadata = {"labels": {**carried.labels, **plan.labels, **way}, "annotations": carried.annotations}
    template: KubeObject = compact({"metadata": metadata, "spec": spec})
    return template


def _carried(plan: PodPlan, pool: Pool, settings: Settings) -> PodDefaults:
    """Return what the cluster, the pool and the resource, each over the one before, have the pod carry."""
    own = plan.compute.pod_template or PodTemplate()
    asked = PodDefaults(labels=own.labels, annotations=own.annotations, service_account_name=own.service_account_name)
    return asked.over(pool.pods.over(settings.pods))


def _pull_secrets(plan: PodPlan, settings: Settings) -> list[KubeObject]:
    own = plan.compute.pod_template or PodTemplate()
    names = dict.fromkeys([*settings.image_pull_secrets, *(ref.name for ref in own.image_pull_secrets)])
    return [{"name": name} for name in names]


def _container(plan: PodPlan, container: Container, settings: Settings) -> KubeObject:
    pool = pool_of(plan.compute.pool, settings, plan.pool_field)
    devices = plan.compute if container is plan.main else plan.compute.model_copy(update={"gpus_per_node": 0})
    return {
        "name": container.name,
        "image": image_of(container.role, plan.compute.pool, settings, plan.pool_field),
        "imagePullPolicy": settings.image_pull_policy,
        "command": list(container.command),
        "args": list(container.args),
        "env": _environment(container, pool.env, settings),
        "ports": [{"name": name, "containerPort": port} for name, port in container.ports.items()],
        "resources": resources(devices, pool),
        "securityContext": _container_security(),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": _mounts(plan),
        **container.extra,
    }


def _environment(container: Container, pool_env: Mapping[str, str], settings: Settings) -> list[KubeObject]:
    """Return each variable once (server-side apply refuses a name twice), the fixed ones last so that they stand."""
    values: dict[str, EnvValue] = {**container.defaults, **_outside(settings), **pool_env, **container.env}
    values |= {"HOME": "/tmp", "STAR_WORK_DIR": WORK_DIR}  # noqa: S108 - the pod's own emptyDir
    if settings.pod_security.run_as_user != USER:
        values["USER"] = "star"  # an id that /etc/passwd does not know has no name, which engines ask for
    for key in (*STORE_KEYS, STORE_TOKEN):
        values.pop(key, None)
    if container.store_access:
        values |= _store_keys(container.store_secret or settings.store.secret_name)
    return [_variable(name, value) for name, value in values.items()]


def _store_keys(name: str) -> dict[str, EnvValue]:
    """Return the store's credentials; none where pods take a role: an empty key would be taken for one."""
    if not name:
        return {}
    keys: dict[str, EnvValue] = {key: SecretKeyRef(name=name, key=key) for key in STORE_KEYS}
    return {**keys, STORE_TOKEN: OptionalKey(name, STORE_TOKEN)}


def ca_files(settings: Settings) -> dict[str, str]:
    """Return the certificate authorities as a file of a pod's ConfigMap; nothing where they are the public ones."""
    return {CA_FILE: settings.ca_bundle} if settings.ca_bundle else {}


def _outside(settings: Settings) -> dict[str, str]:
    trusted = dict.fromkeys(CA_VARIABLES, f"{SPEC_DIR}/{CA_FILE}") if settings.ca_bundle else {}
    return {**trusted, **settings.proxy.environment(settings.cluster_domain)}


def _variable(name: str, value: EnvValue) -> KubeObject:
    match value:
        case FieldRef(path):
            return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
        case OptionalKey(secret, key):
            return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}}}
        case SecretKeyRef():
            return {"name": name, "valueFrom": {"secretKeyRef": {"name": value.name, "key": value.key}}}
        case _:
            return {"name": name, "value": value}


def _volumes(plan: PodPlan, shm_size: str) -> list[KubeObject]:
    files: list[KubeObject] = [{"configMap": {"name": plan.config_map}}] if plan.config_map else []
    for name, ref in plan.api_keys.items():
        item = {"key": ref.key, "path": f"keys/{name}", "mode": FILE_MODE}
        files.append({"secret": {"name": ref.name, "items": [item]}})
    for name, ref in plan.optional_keys.items():
        item = {"key": ref.key, "path": f"keys/{name}", "mode": FILE_MODE}
        files.append({"secret": {"name": ref.name, "items": [item], "optional": True}})
    volumes: list[KubeObject] = [
        # `medium: ""` is the default; it is said so that an emptyDir without a limit is not an empty map.
        {"name": "tmp", "emptyDir": {"medium": ""}},
        {"name": "work", "emptyDir": {"medium": "", "sizeLimit": plan.compute.resources.scratch}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shm_size}},
    ]
    if files:
        volumes.append({"name": "star", "projected": {"sources": files, "defaultMode": FILE_MODE}})
    if plan.operator_token:
        token = {"path": "token", "audience": TOKEN_AUDIENCE, "expirationSeconds": TOKEN_SECONDS}
        sources = [{"serviceAccountToken": token}]
        volumes.append({"name": "token", "projected": {"sources": sources, "defaultMode": FILE_MODE}})
    for number, secret in enumerate(plan.secrets.values()):
        volumes.append({"name": f"secret-{number}", "secret": {"secretName": secret, "defaultMode": FILE_MODE}})
    return volumes


def _mounts(plan: PodPlan) -> list[KubeObject]:
    mounts: list[KubeObject] = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own emptyDir
        {"name": "work", "mountPath": WORK_DIR},
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
    ]
    if plan.config_map or plan.api_keys or plan.optional_keys:
        mounts.append({"name": "star", "mountPath": SPEC_DIR, "readOnly": True})
    if plan.operator_token:
        mounts.append({"name": "token", "mountPath": TOKEN_PATH.rpartition("/")[0], "readOnly": True})
    for number, folder in enumerate(plan.secrets):
        mounts.append({"name": f"secret-{number}", "mountPath": folder, "readOnly": True})
    return mounts


def _pod_security(security: PodSecurity) -> KubeObject:
    return {"runAsNonRoot": True, **security.to_json_dict(), "seccompProfile": {"type": "RuntimeDefault"}}


def _container_security() -> KubeObject:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
