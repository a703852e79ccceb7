"""Programs that a model brings along are not run: an engine gets a folder that has none, and names none.

ms-swift loads every model with `trust_remote_code=True`, whatever it is told (4.6, swift/model/register.py):
transformers then prefers the classes that `auto_map` names to its own, and imports them from the folder, or fetches
them from a hub. Such a program sees what the pod sees, the store's credentials too. Models that can be trained here are
of architectures which transformers knows: they need no program of their own.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from star_jobs.errors import TerminalFailure
from star_jobs.models.files import ModelFiles

NAMES_CODE = "auto_map"
"""Key of configurations: class -> `module.Class` of the folder, or `org/repository--module.Class` of a hub."""
CONFIGURATIONS = "*config.json"
"""Where transformers looks for it: of the model, its tokenizer, its processors. In a vocabulary it is but a token."""
NOT_FOR_ENGINES = ("*.py", "args.json")
"""`args.json` are ms-swift's own arguments of an earlier training; plug-ins to import are among them."""


def without_code(folder: Path, beside: Path) -> Path:
    """Return a model's folder without programs: itself where it has none, else `beside`, with links to its files."""
    stripped = dict(_stripped(folder))
    left_out = {path for pattern in NOT_FOR_ENGINES for path in folder.rglob(pattern)}
    if not stripped and not left_out:
        return folder
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for path in sorted(folder.rglob("*")):
        target = beside / path.relative_to(folder)
        if path.is_dir():
            target.mkdir()
        elif path not in stripped and path not in left_out:
            target.symlink_to(path.resolve())
    for path, text in stripped.items():
        if text is not None:
            (beside / path.relative_to(folder)).write_text(text, encoding="utf-8")
    return beside


def _stripped(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield the configurations that name programs, with the text without; None for what cannot be read as one."""
    files = ModelFiles(folder, folder.name)
    for path in sorted(folder.glob(CONFIGURATIONS)):
        try:
            config = files.json(path.name)
            found = _without(config)
        except (TerminalFailure, RecursionError):  # of no use to an engine: what it needs has been looked at
            yield path, None
            continue
        if found != config:
            yield path, json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without(one) for name, one in value.items() if name != NAMES_CODE}
    return [_without(one) for one in value] if isinstance(value, list) else value
