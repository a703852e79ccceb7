"""`star-job vllm`: vLLM on a node without GPUs, in the number format that the node's processor is fast in.

The operator does not know on which node a pod will run, and vLLM itself may take bfloat16 on any processor. So the
container starts here: `--dtype auto` is resolved, the choice is said in the log, and this process becomes `vllm serve`.
"""

import os
import sys
from collections.abc import Sequence

import structlog

from star_contracts.processor import AUTO, Choice, Processor, this_processor
from star_jobs import runtime

COMMAND = ("vllm", "serve")
FLAG = "--dtype"


def settle(arguments: Sequence[str], processor: Processor) -> tuple[list[str], Choice]:
    """Return the arguments of `vllm serve` with the number format chosen; without `--dtype` it is `auto`."""
    found = list(arguments)
    if FLAG not in found[:-1]:
        found += [FLAG, AUTO]
    at = found.index(FLAG) + 1
    choice = processor.choose(found[at])
    found[at] = choice.number_format
    return found, choice


def main(arguments: Sequence[str]) -> int:
    """Become `vllm serve`; return only where there is no such program."""
    runtime.configure_logging()
    found, choice = settle(arguments, this_processor())
    log: runtime.Logger = structlog.get_logger()
    say = log.warning if choice.slow else log.info
    say("number format", computes_in=choice.number_format, because=choice.because)
    sys.stdout.flush()
    try:
        os.execvp(COMMAND[0], [*COMMAND, *found])  # noqa: S606 - no shell is wanted
    except FileNotFoundError:
        sys.stderr.write("there is no vllm in this image: pods of the role `vllm` need the image made for it\n")
    return 127
