"""Which flags of `vllm serve` a resource may set: those that change how fast it serves, and not what it runs or reads.

Flags that load code (`--trust-remote-code`, `--tool-parser-plugin`, `--middleware`, `--worker-cls`), name files, hosts
or models of their own, or open further ways into the server are the platform's to allow, by name, in the chart's
`settings.allowedEngineArgs`. Names are compared whole: vLLM's parser would take an abbreviation.
Source: docs.vllm.ai, CLI Reference, of vLLM 0.32.
"""

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import StringConstraints

EngineFlagName = Annotated[str, StringConstraints(pattern=r"^--[a-z][a-z0-9-]*$", max_length=63)]

_WORD = r"[A-Za-z0-9_.-]{1,63}"
_NUMBER = r"-?[0-9]{1,12}(\.[0-9]{1,9})?"
_SIZE = r"[0-9]{1,12}(\.[0-9]{1,9})?[kKmMgGtT]?i?"
_NUMBERS = r"[0-9]{1,7}(,[0-9]{1,7}){0,63}"
_INLINE_TEMPLATE = r"(?s)(?![./~])(?!.*/\.\.(/|$)).*\{[{%].*"
"""vLLM opens what it is given as a file first (`load_chat_template`): a folder's name may look like a template."""
_JSON_OF_NUMBERS = r'\{("[a-z_]{1,40}":\s*(-?[0-9.eE+-]{1,24}|true|false|null)(,\s*)?){0,16}\}'
_SWITCHES = (
    "async-scheduling disable-cascade-attn disable-custom-all-reduce disable-sliding-window "
    "disable-hybrid-kv-cache-manager disable-log-stats enable-auto-tool-choice enable-chunked-prefill "
    "enable-dbo enable-eplb enable-expert-parallel enable-flashinfer-autotune enable-prefix-caching "
    "enable-sleep-mode enforce-eager kv-cache-metrics kv-sharing-fast-prefill language-model-only "
    "scheduler-reserve-full-isl skip-mm-profiling use-tqdm-on-load"
)
_NUMBERED = (
    "block-size cpu-offload-gb dbo-decode-token-threshold dbo-prefill-token-threshold decode-context-parallel-size "
    "distributed-timeout-seconds gpu-memory-utilization kv-offloading-size long-prefill-token-threshold "
    "max-cudagraph-capture-size max-logprobs max-num-queued-reqs "
    "max-num-queued-tokens max-parallel-loading-workers num-gpu-blocks-override optimization-level "
    "prefill-context-parallel-size renderer-num-workers seed stream-interval ubatch-size"
)
_SIZED = "kv-cache-memory-bytes max-num-batched-tokens max-num-scheduled-tokens max-num-seqs"
_NAMED = (
    "all2all-backend attention-backend chat-template-content-format dcp-comm-backend expert-placement-strategy "
    "gdn-prefill-backend kv-cache-dtype linear-backend log-level logprobs-mode mamba-backend mamba-cache-dtype "
    "mamba-cache-mode mamba-ssm-cache-dtype moe-backend offload-backend performance-mode prefix-caching-hash-algo "
    "quantization reasoning-parser safetensors-load-strategy scheduling-policy tool-call-parser uvicorn-log-level"
)
_SPECIAL = {
    "chat-template": _INLINE_TEMPLATE,
    "cudagraph-capture-sizes": _NUMBERS,
    "load-format": r"auto|safetensors|fastsafetensors|bitsandbytes|mistral|runai_streamer",
    "model-impl": r"auto|vllm",
    "override-generation-config": _JSON_OF_NUMBERS,
    "tokenizer-mode": r"auto|hf|slow|mistral|deepseek_v32",
}
_VALUES = (
    dict.fromkeys(_NUMBERED.split(), _NUMBER)
    | dict.fromkeys(_SIZED.split(), _SIZE)
    | dict.fromkeys(_NAMED.split(), _WORD)
    | _SPECIAL
)
_WITHOUT_VALUE = frozenset({name for switch in _SWITCHES.split() for name in (switch, f"no-{switch}")})
ALLOWED = (*sorted(f"--{name}" for name in {*_SWITCHES.split(), *_VALUES}),)
"""Every flag that needs nobody's leave, without the `--no-` forms of switches."""


def refusal(flag: str, further: Sequence[str] = ()) -> str | None:
    """Return why a flag (`--name` or `--name=value`) may not be set, as the end of a sentence; None where it may be.

    `further` are the names that the platform allows, with any value.
    """
    name, equals, value = flag.partition("=")
    if name in further:
        return None
    short = name.removeprefix("--")
    if short in _WITHOUT_VALUE:
        return f"{name} takes no value" if equals else None
    pattern = _VALUES.get(short)
    if pattern is None:
        return (
            f"{name} is none of the flags that every resource may set (full names, no abbreviations); where it is "
            "needed, whoever runs the operator adds it to settings.allowedEngineArgs of the chart"
        )
    if re.fullmatch(pattern, value) is None:
        return f"{name} {_EXPECTED.get(pattern, 'has a value that is not allowed')}"
    return None


_EXPECTED = {
    _NUMBER: "needs a number, as --name=4",
    _SIZE: "needs a number, as --name=4096 or --name=8k",
    _NUMBERS: "needs numbers with commas between them",
    _WORD: "needs one word, as --name=word",
    _INLINE_TEMPLATE: "needs the Jinja template itself: a file of the pod cannot be named",
    _JSON_OF_NUMBERS: "needs a JSON object of numbers",
    _SPECIAL[
        "load-format"
    ]: "is auto, safetensors, fastsafetensors, bitsandbytes, mistral or runai_streamer: the other "
    "formats can hold programs",
    _SPECIAL["model-impl"]: "is auto or vllm",
    _SPECIAL["tokenizer-mode"]: "is auto, hf, slow, mistral or deepseek_v32",
}
