"""`make` of documented commands: the target is there, and make can tell what it would do."""

import os
import sys

os.environ["PATH"] = os.environ["STAR_TEST_REAL_PATH"]
os.execvp("make", ["make", "--dry-run", *sys.argv[1:]])
