"""`star-job` of documented commands: the real one; a server is only asked whether it knows its configuration's name."""

import os
import subprocess
import sys
from pathlib import Path

from star_contracts.result import ExitCode

done = subprocess.run(
    [str(Path(sys.executable).parent / "star-job"), *sys.argv[1:]],
    env={**os.environ, "STAR_GATEWAY_CONFIG": "/no/such/file"},
    capture_output=True,
    text=True,
)
sys.stderr.write(done.stderr)
served = "serve" in sys.argv and done.returncode == ExitCode.TERMINAL and "/no/such/file" in done.stdout + done.stderr
sys.exit(0 if served else done.returncode)
