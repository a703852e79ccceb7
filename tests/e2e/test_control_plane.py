"""`starctl local up --control-plane-only`: an API server that outlives the command, without a node and without root."""

from pathlib import Path

import pytest

from star_cli.local.cluster import Engine, LocalCluster, check_kubeconfig
from star_cli.local.processes import Processes, is_alive

pytestmark = pytest.mark.e2e


def test_control_plane_is_found_again_and_down_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAR_STATE", str(tmp_path / "state"))
    assert LocalCluster("alone").up(Engine.CONTROL_PLANE) is Engine.CONTROL_PLANE
    again = LocalCluster("alone")
    processes = Processes(again.layout.records, again.layout.logs)
    records = [record for name in processes.names() if (record := processes.record(name))]
    try:
        assert again.status().well
        assert check_kubeconfig(again.kubeconfig) == (True, ())
        assert again.up() is Engine.CONTROL_PLANE
        assert [processes.record(name) for name in processes.names()] == records
    finally:
        assert again.down()
    assert len(records) == 4
    assert not any(is_alive(record) for record in records)
    assert list((tmp_path / "state").iterdir()) == []
    assert not LocalCluster("alone").down()
