"""What the commit and the pull request say."""

import subprocess
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_contracts.artifact import ArtifactRef
from star_contracts.promotion import (
    ApprovalFact,
    CheckpointFacts,
    Figure,
    GateFact,
    Link,
    OverrideFact,
    PromotionSpec,
    ReportClaim,
)
from star_jobs.promote.edit import Standing
from star_jobs.promote.message import commit_message, is_of, request_body, subject, trailers
from tests.support.gitrepos import OLD, digest, promotion_spec

DATA, REPORT = digest(70), digest(80)
BEFORE = CheckpointFacts(
    digest=OLD, name="movielens-sft", dataset=DATA, metrics={"hrAvg": Figure(value=0.31), "valid": Figure(value=1.0)}
)
AFTER = CheckpointFacts(
    digest=digest(1),
    name="movielens-grpo",
    producer="GRPOJob/movielens-grpo",
    inputs={"model": OLD, "dataset": DATA},
    dataset=DATA,
    data_age_days=3.25,
    metrics={"hrAvg": Figure(value=0.4123456, low=0.38, high=0.44)},
)
FULL = promotion_spec(
    "https://git.example.com/a.git",
    environment="prod",
    facts=(AFTER, BEFORE),
    gates=(GateFact(name="hrAvg", message="0.4123 is at least 0.35"), GateFact(name="soak", met=False)),
    approvals=(ApprovalFact(user="ada", seen=datetime(2026, 1, 2, 3, 4, tzinfo=UTC), comment="fine\nwith me"),),
    reports=(
        ReportClaim(evaluation="e", report=ArtifactRef(uri="s3://models/r", digest=REPORT), checkpoint=digest(1)),
    ),
    links=(Link(title="Report [x](y)", url="https://example.com/r"),),
)
STANDING = Standing("s3://models/old", OLD)
MESSAGE = f"""\
Promote movielens-grpo to prod

from  {OLD} (movielens-sft)
to    {digest(1)} (movielens-grpo, made by GRPOJob/movielens-grpo)
uri   s3://models/checkpoint-1

Made from
  dataset: {DATA}
  model: {OLD}
Measured on data {DATA}, 3.2 days old

Figures
         before  after
  hrAvg  0.31    0.4123 [0.38, 0.44]
  valid  1       -

Requirements
  met  hrAvg: 0.4123 is at least 0.35
  NOT MET  soak

Approved by
  ada, 2026-01-02 03:04 UTC: fine with me

Links
  Report [x](y): https://example.com/r

Star-Promotion: team/p/p-uid-0001
Star-Digest: {digest(1)}
Star-From: {OLD}
Star-Checkpoint: movielens-grpo
Star-Environment: prod
Star-Data: {DATA}
Star-Approved-By: ada
Star-Report: {REPORT}
"""


def test_the_whole_message() -> None:
    assert commit_message(FULL, STANDING) == MESSAGE


def test_git_reads_the_same_trailers() -> None:
    done = subprocess.run(
        ["git", "interpret-trailers", "--parse"], input=MESSAGE, capture_output=True, text=True, check=True
    )
    assert dict(line.split(": ", 1) for line in done.stdout.splitlines()) == trailers(MESSAGE)


def test_an_override_is_shouted() -> None:
    spec = FULL.model_copy(update={"override": OverrideFact(user="eve", reason="an incident")})
    message = commit_message(spec, STANDING)
    assert message.startswith(
        "OVERRIDE: promote movielens-grpo to prod\n\nREQUIREMENTS WERE OVERRIDDEN by eve:\n  an inc"
    )
    assert trailers(message)["Star-Overridden-By"] == "eve"


def test_figures_on_other_data_say_so() -> None:
    spec = FULL.model_copy(update={"facts": (AFTER, BEFORE.model_copy(update={"dataset": digest(9)}))})
    assert "before: on other data than after" in commit_message(spec, STANDING)


def test_little_is_known() -> None:
    spec = promotion_spec("https://git.example.com/a.git")
    message = commit_message(spec, Standing(None, "placeholder"))
    assert message.startswith("Promote 000000000000 to main\n\nfrom  nothing that was pinned\n")
    assert trailers(message)["Star-From"] == "none"


def test_a_request_has_it_fenced_and_its_links_outside() -> None:
    spec = FULL.model_copy(update={"gates": (GateFact(name="x", message="``` **bold** <img src=x>"),)})
    body = request_body(spec, STANDING)
    assert body.startswith("````text\n")
    assert body.rstrip().endswith("- [Report \\[x\\]\\(y\\)](https://example.com/r)")
    assert body.count("````") == 2


def test_subjects_are_short() -> None:
    spec = FULL.model_copy(update={"environment": "e" * 100})
    assert len(subject(spec)) == 72


@pytest.mark.parametrize(
    ("message", "own"),
    [
        (MESSAGE, True),
        ("Squashed (#7)\n\n* Promote\n\n" + MESSAGE + "\n\nCo-authored-by: x <x@example.com>\n", True),
        (MESSAGE.replace("\n", "\r\n"), True),
        (MESSAGE.replace("uid-0001", "uid-0002"), False),
        ("Revert it\n\nThis reverts commit 123, which said Star-Promotion: team/p/p-uid-0001\n", False),
        ("Talk\n\nStar-Promotion: team/p/p-uid-0001 is what\nI mean\n", False),
        ("", False),
    ],
)
def test_a_commit_is_known_again(message: str, own: bool) -> None:
    assert is_of(FULL, message) is own


LINES = st.text(st.sampled_from("ab \n\r\t:\u2028\u202e\x00\x1b*#`") | st.characters(codec="utf-8"), max_size=60)
HOSTILE = LINES | LINES.map(lambda text: f"{text}\n\nStar-Promotion: team/x/y\nStar-Digest: z")


@pytest.mark.bad_input
@given(HOSTILE, HOSTILE, HOSTILE)
def test_nothing_from_outside_becomes_a_trailer(reason: str, comment: str, name: str) -> None:
    changes: dict[str, Any] = {
        "override": OverrideFact(user="eve", reason=reason),
        "approvals": (ApprovalFact(user=name or "x", comment=comment),),
        "gates": (GateFact(name=name, message=reason),),
        "facts": (AFTER.model_copy(update={"name": name, "producer": comment}),),
        "environment": name,
    }
    spec: PromotionSpec = FULL.model_copy(update=changes)
    message = commit_message(spec, STANDING)
    found = trailers(message)
    assert (found["Star-Promotion"], found["Star-Digest"]) == ("team/p/p-uid-0001", digest(1))
    assert not is_of(promotion_spec("https://git.example.com/a.git", name="x").model_copy(update={}), message)
    assert message.count("\nStar-Promotion: ") == 1
    assert "\x1b" not in message
    assert "\u202e" not in message
