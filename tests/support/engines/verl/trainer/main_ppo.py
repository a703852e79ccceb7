"""`python -m verl.trainer.main_ppo name=value ...`: writes what verl writes, as fast as it can.

FAKE_ENGINE (JSON): `fail_at` and `last_words` end it with an error at a step, `hang_at` makes it wait there, `figures`
are what its metrics say of a step besides.
"""

import json
import os
import sys
import threading
from pathlib import Path

from tests.support.training import write_safetensors

LATEST = "latest_checkpointed_iteration.txt"


def main() -> int:
    settings = {name.lstrip("+"): value.strip("'") for name, _, value in (a.partition("=") for a in sys.argv[1:])}
    script = json.loads(os.environ.get("FAKE_ENGINE", "{}"))
    folder = Path(settings["trainer.default_local_dir"])
    total, every = int(settings["trainer.total_training_steps"]), int(settings["trainer.save_freq"])
    first = int((folder / LATEST).read_text()) if (folder / LATEST).is_file() else 0
    with Path(os.environ["VERL_FILE_LOGGER_PATH"]).open("w") as log:
        for step in range(first + 1, total + 1):
            if step == script.get("hang_at"):
                threading.Event().wait(60)
            if step == script.get("fail_at"):
                print(script["last_words"], file=sys.stderr, flush=True)
                return 1
            if step % every == 0 or step == total:
                save(folder, Path(settings["actor_rollout_ref.model.path"]), step)
            data = {"critic/rewards/mean": step / 10, "actor/pg_loss": 0.01, "num_turns/mean": 2.0, "other": None}
            data |= script.get("figures", {}).get(str(step), {})
            log.write(json.dumps({"step": step, "data": data}) + "\n")
            log.flush()
    return 0


def save(folder: Path, model: Path, step: int) -> None:
    actor = folder / f"global_step_{step}" / "actor"
    (actor / "huggingface").mkdir(parents=True)
    (actor / "optim_world_size_1_rank_0.pt").write_bytes(b"state")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (actor / "huggingface" / name).write_bytes((model / name).read_bytes())
    write_safetensors(actor / "huggingface" / "model.safetensors", {"w": (2, 2)}, fill=step)
    (folder / LATEST).write_text(str(step))


if __name__ == "__main__":
    sys.exit(main())
