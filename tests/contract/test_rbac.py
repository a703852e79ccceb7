"""What the chart lets the operator do, as a real API server's authorizer sees it: all it needs, and no more."""

import json

import pytest
import yaml

from star_operator.core.settings import Settings
from star_operator.kube import resources
from tests.support.helm import render
from tests.support.kubectl import Kubectl

OPERATOR = "system:serviceaccount:star-system:star-operator"
ROLES = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
LISTED = (
    resources.JOB, resources.POD, resources.SERVICE, resources.CONFIG_MAP, resources.DEPLOYMENT,
    resources.STATEFUL_SET, resources.EVENT, resources.WORKLOAD, *resources.STAR_TYPES.values(),
)  # fmt: skip


@pytest.fixture(scope="module")
def installed(kubectl: Kubectl) -> Kubectl:
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "star-system"}})
    kubectl.apply(*(obj for obj in render() if obj["kind"] in ROLES))
    return kubectl


def may(kubectl: Kubectl, action: str, namespace: str = "team-a", user: str = OPERATOR) -> bool:
    """Ask for `<verb> <resource>[.<group>][/<subresource>][:<name>]` (authorization.k8s.io SubjectAccessReview)."""
    verb, _, what = action.partition(" ")
    what, _, name = what.partition(":")
    what, _, subresource = what.partition("/")
    resource, _, group = what.partition(".")
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": {**attributes, "subresource": subresource, "name": name}},
    }
    answer = json.loads(kubectl.run("create", "-o", "json", "-f", "-", stdin=json.dumps(review)))
    return bool(answer["status"]["allowed"])


def full_name(rtype: resources.ResourceType) -> str:
    group, slash, _ = rtype.api_version.partition("/")
    return f"{rtype.plural}.{group}" if slash else rtype.plural


@pytest.mark.parametrize("rtype", LISTED, ids=lambda rtype: rtype.kind)
def test_it_may_see_what_it_looks_at(installed: Kubectl, rtype: resources.ResourceType) -> None:
    assert may(installed, f"list {full_name(rtype)}")


@pytest.mark.parametrize("rtype", resources.STAR_TYPES.values(), ids=lambda rtype: rtype.kind)
def test_it_may_follow_its_kinds_and_write_their_status(installed: Kubectl, rtype: resources.ResourceType) -> None:
    assert may(installed, f"watch {full_name(rtype)}")
    assert may(installed, f"get {full_name(rtype)}")
    assert may(installed, f"patch {full_name(rtype)}/status")
    owns = rtype.kind not in ("RetrainSchedule", "PromotionPolicy")
    assert may(installed, f"update {full_name(rtype)}/finalizers") == owns


@pytest.mark.parametrize(
    "rtype",
    [
        resources.JOB,
        resources.SERVICE,
        resources.CONFIG_MAP,
        resources.DEPLOYMENT,
        resources.STATEFUL_SET,
    ],
    ids=lambda rtype: rtype.kind,
)
def test_it_may_make_change_and_remove_children(installed: Kubectl, rtype: resources.ResourceType) -> None:
    # server-side apply of an object that is not there asks for both verbs
    for verb in ("create", "patch", "delete"):
        assert may(installed, f"{verb} {full_name(rtype)}")


@pytest.mark.parametrize(
    "action",
    [
        "create checkpoints.star.recsys.dev",
        "create evaluations.star.recsys.dev",
        "create teacherruns.star.recsys.dev",
        "create stardeployments.star.recsys.dev",
        "delete teacherruns.star.recsys.dev",
        "delete pods",
        "patch pods",
        "create events",
        "patch events",
        "get secrets:star-store",
        "create secrets",
        "create poddisruptionbudgets.policy",
        "patch poddisruptionbudgets.policy",
        "create networkpolicies.networking.k8s.io",
        "patch networkpolicies.networking.k8s.io",
        "patch retrainschedules.star.recsys.dev",
        "get namespaces",
        "list namespaces",
        "watch namespaces",
        "create starpipelines.star.recsys.dev",
        "delete starpipelines.star.recsys.dev",
        "create tokenreviews.authentication.k8s.io",
        "create promotions.star.recsys.dev",
        "delete promotions.star.recsys.dev",
        "list validatingadmissionpolicies.admissionregistration.k8s.io",
        "list validatingadmissionpolicybindings.admissionregistration.k8s.io",
    ],
)
def test_what_else_it_needs(installed: Kubectl, action: str) -> None:
    assert may(installed, action)


def test_the_lease_is_its_own_and_only_at_home(installed: Kubectl) -> None:
    lease = "leases.coordination.k8s.io"
    assert may(installed, f"create {lease}", "star-system")
    assert may(installed, f"update {lease}:star-operator", "star-system")
    assert not may(installed, f"update {lease}:another", "star-system")
    assert not may(installed, f"update {lease}:star-operator", "kube-system")


def test_the_root_of_its_keys_is_its_own_and_only_at_home(installed: Kubectl) -> None:
    assert may(installed, "get secrets:star-operator-keys", "star-system")
    assert not may(installed, "get secrets:star-operator-keys", "kube-system")
    assert not may(installed, "patch secrets:star-operator-keys", "star-system")
    assert not may(installed, "get secrets:another", "star-system")


def test_a_release_of_another_name_has_a_lease_of_that_name() -> None:
    """Two releases in one namespace, each for namespaces of its own, both lead."""
    objects = render("--set", "fullnameOverride=second")
    [deployment] = [obj for obj in objects if obj["kind"] == "Deployment"]
    assert "--lease=second" in deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    roles = [obj for obj in objects if obj["kind"] == "Role"]
    named = [rule["resourceNames"] for role in roles for rule in role["rules"] if "resourceNames" in rule]
    assert named == [["second"], ["second-keys"]]


@pytest.mark.parametrize(
    "action",
    [
        "get secrets:another",
        "list secrets",
        "watch secrets",
        "get secrets:star-operator-keys",
        "patch secrets:star-store",
        "delete secrets",
        "create pods",
        "get pods/log",
        "create pods/exec",
        "deletecollection teacherruns.star.recsys.dev",
        "list customresourcedefinitions.apiextensions.k8s.io",
        "patch customresourcedefinitions.apiextensions.k8s.io",
        "list horizontalpodautoscalers.autoscaling",
        "delete networkpolicies.networking.k8s.io",
        "create retrainschedules.star.recsys.dev",
        "delete retrainschedules.star.recsys.dev",
        "patch promotionpolicies.star.recsys.dev",
        "update stardeployments.star.recsys.dev/status",
        "create serviceaccounts/token",
        "create clusterrolebindings.rbac.authorization.k8s.io",
        "list nodes",
        "patch validatingadmissionpolicies.admissionregistration.k8s.io",
        "approve promotions.star.recsys.dev",
        "override promotions.star.recsys.dev",
        "patch namespaces",
        "create namespaces",
        "delete namespaces",
    ],
)
def test_what_it_must_not(installed: Kubectl, action: str) -> None:
    assert not may(installed, action)


def test_another_store_secret_is_another_right(installed: Kubectl) -> None:
    assert read_secrets("store.secretName=ours") == [["ours"]]
    assert read_secrets("store.secretName=ours,store.gatewaySecretName=reader") == [["ours", "reader"]]
    assert read_secrets("store.secretName=ours,store.gatewaySecretName=ours") == [["ours"]]


def read_secrets(setting: str) -> list[list[str]]:
    """The names of the Secrets that may be read in the namespaces of others; a rule without names fails."""
    roles = [obj for obj in render("--set", setting) if obj["kind"] == "ClusterRole"]
    rules = [rule for role in roles for rule in role["rules"] if "secrets" in rule["resources"]]
    return [rule["resourceNames"] for rule in rules if rule["verbs"] != ["create"]]


@pytest.mark.parametrize("setting", ["store.secretName=", "store.secretName=null"])
def test_without_a_store_secret_no_secret_can_be_read(setting: str) -> None:
    """An empty list of names would be every Secret of the cluster (RBAC, resourceNames)."""
    assert read_secrets(setting) == []
    assert read_secrets(f"{setting},store.gatewaySecretName=reader") == [["reader"]]


NAMED = "watchNamespaces={team-a,team-b}"


def test_with_named_namespaces_there_are_roles_there_and_of_the_cluster_only_what_is_of_it() -> None:
    objects = render("--set", NAMED)
    roles = {(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]): one for one in objects}
    [everywhere] = [one["rules"] for key, one in roles.items() if key == ("ClusterRole", "", "star-operator")]
    assert {resource for rule in everywhere for resource in rule["resources"]} == {
        "retrainschedules", "retrainschedules/status", "namespaces", "tokenreviews",
        "validatingadmissionpolicies", "validatingadmissionpolicybindings",
    }  # fmt: skip
    [whole] = [
        one["rules"] for one in render() if one["kind"] == "ClusterRole" and one["metadata"]["name"] == "star-operator"
    ]
    for namespace in ("team-a", "team-b"):
        rules = roles["Role", namespace, "star-operator-watched"]["rules"]
        assert [*rules, *everywhere] == whole, "both modes give the same rights, one of them in fewer places"
        assert roles["RoleBinding", namespace, "star-operator-watched"]["subjects"][0]["namespace"] == "star-system"
    assert roles["Role", "default", "star-operator-events"]["rules"] == [
        {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "create", "patch"]}
    ]
    settings = next(one for one in objects if one["kind"] == "ConfigMap")["data"]["settings.yaml"]
    assert Settings.model_validate(yaml.safe_load(settings)).watch_namespaces == ("team-a", "team-b")


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["Team", "a/b", "a.b", "*"])
def test_a_namespace_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(RuntimeError, match="watchNamespaces"):
        render("--set", f"watchNamespaces={{{name}}}")
