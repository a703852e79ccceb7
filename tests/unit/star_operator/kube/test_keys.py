"""The root of all keys, and Secrets that are made once."""

import asyncio
import base64
from typing import Any

import pytest

from star_operator.core.errors import Retryable
from star_operator.core.keys import KeyRing
from star_operator.kube.keys import ensure_secret, load_key_ring
from star_operator.kube.resources import SECRET
from tests.support.fakecluster import FakeCluster


class Server(FakeCluster):
    """Keeps Secrets as the API server does: `stringData` becomes `data`."""

    async def create(self, obj: Any, *, dry_run: bool = False) -> Any:
        data = {key: base64.b64encode(text.encode()).decode() for key, text in obj.get("stringData", {}).items()}
        return await super().create({**obj, "data": data, "stringData": None}, dry_run=dry_run)


def load(cluster: FakeCluster) -> KeyRing:
    return asyncio.run(load_key_ring(cluster, "star-system", "star-operator-keys"))


def test_the_root_key_is_made_once_and_found_by_every_operator() -> None:
    cluster = Server()
    first, second = load(cluster), load(cluster)
    assert first == second
    assert first.server("team", "llm-1") == second.server("team", "llm-1")
    assert len(first.root) == 32
    assert cluster.writes == ["apply Secret/star-operator-keys"]
    assert load(Server()) != first


def test_of_two_that_make_it_at_once_what_is_there_counts() -> None:
    class Racing(Server):
        async def get(self, *arguments: Any) -> Any:
            found = await super().get(*arguments)
            if found is None:  # another replica is faster
                other = {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "star-system"}}
                name = {"name": "star-operator-keys", **other["metadata"]}  # type: ignore[dict-item]
                await self.create({**other, "metadata": name, "stringData": {"root": "ab" * 32}})
            return found

    assert load(Racing()).root == b"\xab" * 32


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "data", [{}, {"root": ""}, {"root": "!"}, {"root": "YWI="}, {"root": "/w=="}, {"other": "YWI="}]
)
def test_a_root_key_that_is_none_is_told_without_its_content(data: dict[str, str]) -> None:
    cluster = Server()
    meta = {"namespace": "star-system", "name": "star-operator-keys"}
    cluster.add({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})
    with pytest.raises(Retryable, match="Secret star-operator-keys in namespace star-system has no root of 64"):
        load(cluster)


def test_a_secret_that_is_there_is_left_as_it_is() -> None:
    cluster = Server()
    meta = {"namespace": "team", "name": "keys"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta}
    for text in ("first", "second"):
        asyncio.run(ensure_secret(cluster, {**secret, "stringData": {"server": text}}))
    found = asyncio.run(cluster.get(SECRET, "team", "keys"))
    assert found is not None
    assert base64.b64decode(found["data"]["server"]) == b"first"


def test_other_refusals_are_told() -> None:
    class Busy(Server):
        async def create(self, obj: Any, *, dry_run: bool = False) -> Any:
            raise Retryable("TooManyRequests", "later")

    with pytest.raises(Retryable, match="later"):
        asyncio.run(ensure_secret(Busy(), {}))
