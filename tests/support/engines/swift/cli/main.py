"""`python -m swift.cli.main <verb> --name value ...`: writes what ms-swift writes, as fast as it can.

FAKE_ENGINE (JSON): `fail_at` and `last_words` end it with an error at a step, `hang_at` makes it wait there, `figures`
are what its log says of a step besides.
"""

import json
import os
import sys
import threading
import zipfile
from pathlib import Path

from tests.support.training import write_safetensors


def main() -> int:
    arguments = {name.removeprefix("--"): value for name, value in zip(sys.argv[2::1], sys.argv[3::1], strict=False)}
    script = json.loads(os.environ.get("FAKE_ENGINE", "{}"))
    output = Path(arguments["output_dir"])
    output.mkdir(parents=True, exist_ok=True)
    total, every = int(arguments.get("max_steps", "4")), int(arguments["save_steps"])
    resume = arguments.get("resume_from_checkpoint")
    first = int(resume.rsplit("-", 1)[1]) if resume else 0
    print("AWS" if "AWS_SECRET_ACCESS_KEY" in os.environ else "no credentials", flush=True)
    for step in range(first + 1, total + 1):
        if step == script.get("hang_at"):
            threading.Event().wait(60)
        if step == script.get("fail_at"):
            print(script["last_words"], file=sys.stderr, flush=True)
            return int(script.get("status", 1))
        line = {"loss": str(4.0 / step), "reward": "0.5", "global_step/max_steps": f"{step}/{total}"}
        line |= script.get("figures", {}).get(str(step), {})
        with (output / "logging.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        if step % every == 0 or step == total:
            save(output / f"checkpoint-{step}", Path(arguments["model"]), step, total)
    return 0


def save(folder: Path, model: Path, step: int, total: int) -> None:
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((model / name).read_bytes())
    write_safetensors(folder / "model.safetensors", {"w": (2, 2)}, fill=step)
    for name in ("optimizer.pt", "rng_state.pth"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("data", b"0")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": total}))


if __name__ == "__main__":
    sys.exit(main())
