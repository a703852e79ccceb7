"""Which flags of `vllm serve` need nobody's leave."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_operator.api.common import RESERVED_FLAGS
from star_operator.core.engineargs import ALLOWED, refusal


@pytest.mark.parametrize(
    "flag",
    [
        "--gpu-memory-utilization=0.92",
        "--max-num-seqs=256",
        "--max-num-batched-tokens=8k",
        "--enable-prefix-caching",
        "--no-enable-chunked-prefill",
        "--quantization=fp8",
        "--kv-cache-dtype=fp8_e4m3",
        "--reasoning-parser=deepseek_r1",
        "--load-format=safetensors",
        "--cudagraph-capture-sizes=1,2,4",
        '--override-generation-config={"temperature": 0.6, "top_p": 0.95}',
        "--chat-template={% for m in messages %}{{ m.content }}{% endfor %}",
        "--chat-template={{ messages[0].content }} and so on ... and / or",
    ],
)
def test_what_only_changes_how_fast_it_serves_is_allowed(flag: str) -> None:
    assert refusal(flag) is None


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "flag",
    [
        "--trust-remote-code",
        "--tool-parser-plugin=/work/model/x.py",
        "--reasoning-parser-plugin=x",
        "--middleware=os.system",
        "--worker-cls=x",
        "--worker-extension-cls=x",
        "--scheduler-cls=x",
        "--logits-processors=x",
        "--io-processor-plugin=x",
        "--hf-overrides={}",
        "--hf-config-path=x",
        "--tokenizer=other/model",
        "--tokenizer-mode=custom",
        "--load-format=pt",
        "--load-format=auto|pt",
        "--model-impl=transformers",
        "--compilation-config={}",
        "--kv-transfer-config={}",
        "--speculative-config={}",
        "--lora-modules=a=b",
        "--enable-lora",
        "--download-dir=/",
        "--ssl-keyfile=/x",
        "--allowed-local-media-path=/",
        "--otlp-traces-endpoint=http://169.254.169.254",
        "--log-config-file=/x",
        "--chat-template=/var/run/secrets/x",
        "--chat-template=./x{{",
        "--chat-template=template.jinja",
        "--chat-template=model/{{x/../../../var/run/secrets/token",
        "--chat-template={{x/..",
        "--quantization=/a/b",
        "--api-ke=secret",
        "--trust-remote",
        "--max-num-seq=8",
        "--max-num-seqs",
        "--max-num-seqs=",
        "--max-num-seqs=8 --trust-remote-code",
        "--enforce-eager=1",
        "--enforce-eager\n",
        '--override-generation-config={"a": "b"}',
    ],
)
def test_what_loads_code_reads_files_or_is_abbreviated_is_refused(flag: str) -> None:
    assert refusal(flag) is not None


def test_the_platform_allows_further_flags_by_their_whole_name() -> None:
    assert refusal("--speculative-config={}", ["--speculative-config"]) is None
    assert refusal("--speculative-conf={}", ["--speculative-config"]) is not None
    assert "settings.allowedEngineArgs" in (refusal("--trust-remote-code") or "")


@given(st.sampled_from(ALLOWED), st.integers(1, 60))
def test_no_part_of_a_name_is_a_name(flag: str, length: int) -> None:
    part = flag[: 2 + length]
    if part not in ALLOWED:
        assert refusal(part) is not None
        assert refusal(f"{part}=1") is not None


def test_what_fields_set_is_not_among_them() -> None:
    assert not set(ALLOWED) & set(RESERVED_FLAGS)
