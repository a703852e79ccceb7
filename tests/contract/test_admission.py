"""Admission by a real API server: the samples are taken, mistakes are refused with a sentence that says what to do."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from star_operator.api.kinds import BY_KIND
from tests.contract.bad_manifests import BAD, SAMPLES, Bad, changed, sample
from tests.contract.changes import BAD_CHANGES, GOOD_CHANGES, Change
from tests.support.kubectl import Kubectl

MANIFESTS = SAMPLES.parent
EVERY_SAMPLE = sorted(SAMPLES.rglob("*.yaml"))


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def server_dry_run(kubectl: Kubectl, manifest: dict[str, Any]) -> dict[str, Any]:
    """What the API server would store; strict about unknown fields, as kubectl is by default."""
    arguments = ("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-")
    stored: dict[str, Any] = json.loads(kubectl.run(*arguments, stdin=json.dumps(manifest)))
    return stored


@pytest.mark.parametrize("path", EVERY_SAMPLE, ids=lambda path: str(path.relative_to(MANIFESTS)))
def test_samples_are_taken_and_mean_the_same_with_and_without_defaults(kubectl: Kubectl, path: Path) -> None:
    for manifest in documents(path):
        stored = server_dry_run(kubectl, manifest)
        kind = BY_KIND[manifest["kind"]]
        assert kind.parse(stored).spec == kind.parse(manifest).spec


def test_there_is_a_sample_of_every_kind() -> None:
    kinds = [documents(path)[0]["kind"] for path in SAMPLES.glob("*.yaml")]
    assert sorted(kinds) == sorted(BY_KIND)


@pytest.mark.bad_input
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_manifest_is_refused(kubectl: Kubectl, bad: Bad) -> None:
    with pytest.raises(RuntimeError) as refusal:
        server_dry_run(kubectl, bad.manifest())
    for words in bad.says:
        assert words in str(refusal.value)


def test_bad_manifests_have_names_of_their_own() -> None:
    names = [bad.name for bad in (*BAD, *BAD_CHANGES, *GOOD_CHANGES)]
    assert len(names) == len(set(names))


def change_dry_run(kubectl: Kubectl, change: Change, created: dict[str, dict[str, Any]]) -> None:
    """Make the sample once, then ask for the change."""
    if change.kind not in created:
        created[change.kind] = sample(change.kind)
        kubectl.run("apply", "--server-side", "-f", "-", stdin=json.dumps(created[change.kind]))
    new = changed(created[change.kind], change.changes)
    kubectl.run("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=json.dumps(new))


@pytest.fixture(scope="module")
def created() -> dict[str, dict[str, Any]]:
    return {}


@pytest.mark.bad_input
@pytest.mark.parametrize("change", BAD_CHANGES, ids=lambda change: change.name)
def test_a_run_keeps_its_spec(kubectl: Kubectl, created: dict[str, dict[str, Any]], change: Change) -> None:
    with pytest.raises(RuntimeError) as refusal:
        change_dry_run(kubectl, change, created)
    kind = created[change.kind]["kind"]
    assert f"{change.field}: Invalid value" in str(refusal.value)
    assert f"{change.field} is immutable" in str(refusal.value)
    assert f"create a new {kind} instead" in str(refusal.value)


@pytest.mark.parametrize("change", GOOD_CHANGES, ids=lambda change: change.name)
def test_what_may_change_may_change(kubectl: Kubectl, created: dict[str, dict[str, Any]], change: Change) -> None:
    change_dry_run(kubectl, change, created)
