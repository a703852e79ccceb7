"""The promotion's Job as a process of this machine: the very program, with what its pod would have mounted.

Its pod is played, its work is not: it asks the real Git server and the real forge.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kubernetes import client

from star_contracts.base import sha256_digest
from star_contracts.promotion import PROMOTION_DIGEST_ENV, PROMOTION_SPEC_PATH
from star_contracts.result import JobResult

SPEC_FILE = PROMOTION_SPEC_PATH.rpartition("/")[2]


def _without_store(text: str, pod: dict[str, Any]) -> str:
    """The orders, which are those that were decided, but for the store: there is none where pods are played."""
    (wanted,) = (one["value"] for one in pod["spec"]["containers"][0]["env"] if one["name"] == PROMOTION_DIGEST_ENV)
    assert sha256_digest(text.encode()) == wanted
    told = json.loads(text)
    assert not told.get("reports")
    return json.dumps({name: value for name, value in told.items() if name not in ("store", "reports")})


def promote_here(core: client.CoreV1Api, pod: dict[str, Any]) -> JobResult:
    """Run `star-job promote` with the ConfigMap and the Secret that the pod mounts; its answer."""
    namespace = pod["metadata"]["namespace"]
    with tempfile.TemporaryDirectory(prefix="star-promote-") as name:
        folder = Path(name)
        (folder / "git").mkdir(mode=0o700)
        (folder / "work").mkdir()
        sources = [
            source
            for volume in pod["spec"]["volumes"]
            for source in volume.get("projected", {}).get("sources", [volume])
        ]
        for source in sources:
            if "configMap" in source:
                found: Any = core.read_namespaced_config_map(source["configMap"]["name"], namespace)
                if SPEC_FILE in (found.data or {}):
                    (folder / SPEC_FILE).write_text(_without_store(found.data[SPEC_FILE], pod))
            elif "secret" in source:
                secret: Any = core.read_namespaced_secret(source["secret"]["secretName"], namespace)
                for key, value in (secret.data or {}).items():
                    (folder / "git" / key).write_bytes(base64.b64decode(value))
        env = {
            **os.environ,
            "STAR_PROMOTION_SPEC": str(folder / SPEC_FILE),
            "STAR_GIT_DIR": str(folder / "git"),
            "STAR_WORK_DIR": str(folder / "work"),
            "STAR_TERMINATION_LOG": str(folder / "answer"),
        }
        command = [sys.executable, "-m", "star_jobs", "promote"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        answer = folder / "answer"
        assert answer.exists(), f"star-job promote said nothing: {done.stdout}{done.stderr}"
        return JobResult.model_validate_json(answer.read_text())
