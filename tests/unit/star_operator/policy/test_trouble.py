"""The kubelet's words about Secrets, made into what a person can act on."""

import pytest

from star_operator.api.stardeployment import StarDeploymentSpec
from star_operator.api.teacherrun import TeacherRunSpec
from star_operator.core.views import PodView, RunView, ServerView, Trouble
from star_operator.policy.trouble import SecretUse, explain, explain_run, explain_server, secret_uses
from tests.support.goldens import settings

LLM = SecretUse("spec.llm.endpoint.secretRef", "llm-key", ("apiKey",))
STORE = SecretUse(
    "store.secretName in the chart's values", "star-store", ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
)
ENDPOINT = {"url": "https://llm.example/v1", "model": "m", "secretRef": {"name": "llm-key"}}

pytestmark = pytest.mark.bad_input


def test_every_secret_that_a_spec_names_is_found_by_its_field() -> None:
    teacher = TeacherRunSpec.model_validate({"dataset": {"name": "d"}, "llm": {"endpoint": ENDPOINT}})
    assert secret_uses(teacher, settings()) == (LLM, STORE)
    gateway = {"apiKeys": {"name": "callers", "key": "keys.txt"}}
    spec = {"checkpoint": {"checkpoint": "c"}, "dataset": {"name": "d"}, "gateway": gateway}
    uses = secret_uses(StarDeploymentSpec.model_validate(spec), settings())
    assert uses[0] == SecretUse("spec.gateway.apiKeys", "callers", ("keys.txt",))


@pytest.mark.parametrize(
    ("words", "reason", "sentence"),
    [
        pytest.param(
            'pod t-0: MountVolume.SetUp failed for volume "star" : secret "llm-key" not found',
            "SecretMissing",
            "namespace team has no Secret llm-key, which spec.llm.endpoint.secretRef names; "
            "create it with apiKey, or correct the name",
            id="no Secret for the LLM",
        ),
        pytest.param(
            'pod t-0: MountVolume.SetUp failed for volume "star" : references non-existent secret key: apiKey',
            "SecretIncomplete",
            "Secret llm-key in namespace team, which spec.llm.endpoint.secretRef names, has no key apiKey; "
            "add it to the Secret, or name another key",
            id="no key for the LLM",
        ),
        pytest.param(
            'container main: CreateContainerConfigError: secret "star-store" not found',
            "SecretMissing",
            "namespace team has no Secret star-store, which store.secretName in the chart's values names; "
            "create it with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or correct the name",
            id="no Secret for the store",
        ),
        pytest.param(
            "container main: CreateContainerConfigError: couldn't find key AWS_ACCESS_KEY_ID in Secret team/star-store",
            "SecretIncomplete",
            "Secret star-store in namespace team, which store.secretName in the chart's values names, "
            "has no key AWS_ACCESS_KEY_ID; add it to the Secret, or name another key",
            id="no key for the store",
        ),
    ],
)
def test_a_secret_that_is_not_there_is_told_by_field_and_key(words: str, reason: str, sentence: str) -> None:
    assert explain(Trouble("PodNotStarted", words), "team", (LLM, STORE), "spec.compute") == Trouble(reason, sentence)


OTHER = SecretUse("spec.agentLlms.planner.endpoint.secretRef", "planner-key", ("apiKey",))


def test_of_two_secrets_with_the_same_key_the_one_that_is_named_is_told() -> None:
    words = "container main: CreateContainerConfigError: couldn't find key apiKey in Secret team/planner-key"
    told = explain(Trouble("PodNotStarted", words), "team", (LLM, OTHER, STORE), "spec.compute")
    assert told is not None
    assert told.message.startswith("Secret planner-key in namespace team, which spec.agentLlms.planner.")


def test_where_only_the_key_is_told_every_secret_that_should_have_it_is_named_once() -> None:
    told = explain(
        Trouble("PodNotStarted", "references non-existent secret key: apiKey"),
        "team",
        (LLM, OTHER, LLM),
        "spec.compute",
    )
    assert told == Trouble(
        "SecretIncomplete",
        "Secret llm-key in namespace team, which spec.llm.endpoint.secretRef names, or Secret planner-key in namespace "
        "team, which spec.agentLlms.planner.endpoint.secretRef names, has no key apiKey; add it to the Secret, or name "
        "another key",
    )


def test_anything_else_stays_in_its_own_words() -> None:
    for text in ("ImagePullBackOff: no such image", 'secret "of somebody else" not found'):
        assert explain(Trouble("PodNotStarted", text), "team", (LLM,), "spec.compute") == Trouble("PodNotStarted", text)
    assert explain(None, "team", (LLM,), "spec.compute") is None


def test_views_are_explained_as_a_whole() -> None:
    words = Trouble("PodNotStarted", 'secret "llm-key" not found')
    run = explain_run(RunView(pods=(PodView("p", 1, "generate", 0, "Pending", trouble=words),)), "team", (LLM,))
    server = explain_server(ServerView("llm-1", ready=False, trouble=words), "team", (LLM,))
    assert [found.trouble.reason for found in (*run.pods, server) if found.trouble] == ["SecretMissing"] * 2
