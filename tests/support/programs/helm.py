"""`helm` of documented commands: the real one; of `helm test` the release's hooks, as no kubelet runs them here."""

import os
import sys

words = sys.argv[1:]
if "test" in words:
    place = words.index("test")
    words[place : place + 1] = ["get", "hooks"]
os.execv(os.environ["STAR_TEST_HELM"], ["helm", *words])
