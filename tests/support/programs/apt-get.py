"""`apt-get` of documented commands: installs nothing; the packages are Python's, or of the list of programs."""

import sys

from star_cli.local.versions import TOOLS

verb, *packages = sys.argv[1:]
listed = {"python3"} | {name for tool in TOOLS.values() for name in (tool.debian, *tool.debian_with)}
sys.exit(0 if verb == "install" and set(packages) <= listed else f"{verb} {packages} is not what our list has")
