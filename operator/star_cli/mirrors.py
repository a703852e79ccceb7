"""Print shell exports that make uv use the mirrors of the user's own pip configuration (uv does not read it)."""

import os
import shlex
import subprocess
import sys

PAIRS = {"global.index-url": "UV_DEFAULT_INDEX", "global.extra-index-url": "UV_INDEX", "global.cert": "SSL_CERT_FILE"}


def main() -> None:
    """Translate the settings that are there; what the environment says already wins."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listing = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in listing.stdout.splitlines():
        key, _, value = line.partition("=")
        variable = PAIRS.get(key.strip())
        if variable and variable not in os.environ:
            print(f"export {variable}={shlex.quote(value.strip().strip(chr(39)))}")


if __name__ == "__main__":
    main()
