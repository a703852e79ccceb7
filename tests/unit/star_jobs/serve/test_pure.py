"""The gateway's pure parts: routing, consensus, keys, configuration, admission."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_contracts.artifact import ArtifactRef
from star_contracts.job import Store
from star_contracts.serving import Backend, GatewayConfig
from star_jobs.serve.admission import Admission
from star_jobs.serve.auth import ApiKeys
from star_jobs.serve.config import FileSignature, InvalidConfig, load_config
from star_jobs.serve.consensus import closest, merged
from star_jobs.serve.problems import Problem
from star_jobs.serve.routing import preference

DIGEST = "sha256:" + "a" * 64
USERS = [f"user-{n}" for n in range(4000)]


def backend(revision: str, weight: int) -> Backend:
    return Backend(revision=revision, checkpoint=DIGEST, base_url="http://b/v1", model="m", weight=weight)


def routed(*backends: Backend) -> dict[str, str]:
    return {user: preference(user, backends)[0].revision for user in USERS}


def config(*backends: Backend) -> GatewayConfig:
    return GatewayConfig(store=Store(), dataset=ArtifactRef(uri="s3://star/d", digest=DIGEST), backends=backends)


def test_shares_follow_the_weights() -> None:
    shares = Counter(routed(backend("a", 90), backend("b", 10)).values())
    assert shares["b"] / len(USERS) == pytest.approx(0.1, abs=0.02)


def test_raising_a_weight_only_moves_users_to_it() -> None:
    before = routed(backend("a", 95), backend("b", 5))
    after = routed(backend("a", 50), backend("b", 50))
    moved = {(before[user], after[user]) for user in USERS if before[user] != after[user]}
    assert moved == {("a", "b")}
    assert Counter(after.values())["b"] / len(USERS) == pytest.approx(0.5, abs=0.03)


def test_a_backend_that_goes_moves_only_its_own_users() -> None:
    before = routed(backend("a", 50), backend("b", 50), backend("c", 50))
    after = routed(backend("a", 50), backend("b", 50))
    assert all(after[user] == before[user] for user in USERS if before[user] != "c")


def test_the_order_of_the_configuration_does_not_matter() -> None:
    assert routed(backend("a", 30), backend("b", 70)) == routed(backend("b", 70), backend("a", 30))


def test_weight_zero_takes_no_traffic() -> None:
    assert [b.revision for b in preference("u", [backend("a", 0), backend("b", 1)])] == ["b"]
    assert preference("u", [backend("a", 0)]) == []


@given(st.lists(st.permutations(["a", "b", "c", "d"]), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_a_merged_ranking_is_a_permutation_and_agreement_wins(rankings: list[list[str]]) -> None:
    result = merged(rankings)
    assert sorted(result) == ["a", "b", "c", "d"]
    assert merged([result] * 3) == result
    assert 0 <= closest(result, rankings) < len(rankings)


def test_the_majority_decides_and_its_reasoning_is_shown() -> None:
    rankings = [["c", "b", "a"], ["a", "b", "c"], ["a", "c", "b"]]
    assert merged(rankings) == ["a", "c", "b"]
    assert closest(["a", "c", "b"], rankings) == 2
    assert merged([["b", "a"], ["a", "b"]]) == ["b", "a"]


def test_keys_let_in_who_has_one(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# ours\nalpha\n\n  beta  \n")
    keys = ApiKeys.read(str(path))
    keys.check("Bearer alpha")
    keys.check("bearer beta")
    for header in (None, "", "Bearer", "Bearer gamma", "Basic alpha", "alpha", "Bearer # ours"):
        with pytest.raises(Problem) as caught:
            keys.check(header)
        assert caught.value.status == 401
        assert caught.value.response().headers["www-authenticate"] == "Bearer"
    ApiKeys.read(None).check(None)


def test_keys_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("very-secret")
    assert "very-secret" not in repr(ApiKeys.read(str(tmp_path / "keys")))


@pytest.mark.bad_input
@pytest.mark.parametrize("content", [None, "", "\n# nothing\n"])
def test_a_keys_file_without_keys_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match="apiKeysFile"):
        ApiKeys.read(str(path))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backends": []}, "backends"),
        ({"backends": None}, "backends"),
        ({"unknown": 1}, "unknown"),
        ({"maxInFlight": 0}, "maxInFlight"),
        ({"dataset": {"uri": "http://x", "digest": DIGEST}}, "dataset.uri"),
    ],
)
def test_a_bad_configuration_names_the_field(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = tmp_path / "gateway.json"
    path.write_text(json.dumps(config(backend("a", 1)).to_json_dict() | change))
    with pytest.raises(InvalidConfig, match=words):
        load_config(path)


@pytest.mark.bad_input
def test_backends_that_serve_nobody_or_twice_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "gateway.json"
    path.write_text(config(backend("a", 0)).model_dump_json(by_alias=True))
    with pytest.raises(InvalidConfig, match="every weight is 0"):
        load_config(path)
    path.write_text(config(backend("a", 1), backend("a", 2)).model_dump_json(by_alias=True))
    with pytest.raises(InvalidConfig, match="listed twice"):
        load_config(path)
    with pytest.raises(InvalidConfig, match="cannot be read"):
        load_config(tmp_path / "none.json")


def test_a_swapped_symlink_is_a_change(tmp_path: Path) -> None:
    """A ConfigMap volume is updated by swapping a symlink to a folder."""
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "gateway.json").write_text(name)
    (tmp_path / "..data").symlink_to("v1")
    before = FileSignature.of(tmp_path / "..data" / "gateway.json")
    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert FileSignature.of(tmp_path / "..data" / "gateway.json") != before
    assert FileSignature.of(tmp_path / "gone") is None


def test_admission_counts_and_says_when_to_come_back() -> None:
    admission = Admission(1)
    for _ in range(50):
        admission.observe(7.2)
    with admission.slots(), pytest.raises(Problem) as caught, admission.slots():
        pass
    assert caught.value.status == 429
    assert caught.value.response().headers["retry-after"] == "8"
    assert admission.in_flight == 0
    with admission.slots():
        assert admission.in_flight == 1


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfalpha\r\n\r\n# ours\r\nbeta",
        b"alpha\nbeta",
        b"\n\n  alpha\t\r\n\xef\xbb\xbf\n beta \n\n\n",
        b"alpha\rbeta",
    ],
)
def test_keys_files_of_every_editor_are_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys").write_bytes(content)
    keys = ApiKeys.read(str(tmp_path / "keys"))
    for key in ("alpha", "beta"):
        keys.check(f"Bearer {key}")


@pytest.mark.bad_input
def test_a_keys_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes("alpha".encode("utf-16"))
    with pytest.raises(ValueError, match="is not UTF-8"):
        ApiKeys.read(str(tmp_path / "keys"))


def test_keys_beyond_ascii_are_compared_byte_by_byte(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("schlüssel", encoding="utf-8")
    ApiKeys.read(str(tmp_path / "keys")).check("Bearer " + "schlüssel".encode().decode("latin-1"))
