"""The list of programs is whole: nothing that our code starts on a machine is missing from it."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from star_cli.local.versions import TOOLS
from tests.support.shelltext import make_programs, programs_of
from tests.support.startedprograms import Code, Start

ROOT = Path(__file__).parents[4]
PRODUCT = ("operator", "jobs")
# Places whose program does not follow from the code around them, and where it comes from.
DECLARED = {
    "operator/star_cli/host/search.py:_fits": "a program of the list, found on this machine, is asked for its version",
    "operator/star_cli/local/controlplane.py:control_plane_specs": "the paths are those of Binaries.ensure_all",
    "jobs/star_jobs/training/process.py:run": "runs in a pod: the engine's program, of the image's lock",
    "jobs/star_jobs/grpo/verl/ray_cluster.py:_must": "runs in a pod: ray, of the image's lock",
    "jobs/star_jobs/llm/server.py:main": "runs in a pod: vllm, of the image's lock",
    "tests/support/argocd.py:_redis": "redis-check-rdb, by the name that makes it the server",
    "tests/support/programs/helm.py:<module>": "the path is that of Binaries.ensure",
    "tests/support/programs/kubectl.py:<module>": "the path is that of Binaries.ensure",
    "tests/support/programs/star-job.py:<module>": "the development environment's own",
    "tests/support/programs/sudo.py:<module>": "what a documented command names, held against the list by that test",
    "tests/bench/engines.py:vllm_engine": "vllm of the image's environment, which the function before it makes",
}
_OTHER_NAMES = {"pip3": "pip"}


def canonical(program: str) -> str:
    return "python3.11" if re.fullmatch(r"python3?(\.\d+)?", program) else _OTHER_NAMES.get(program, program)


def unlisted(programs: Iterable[str]) -> set[str]:
    return {program for program in programs if canonical(program) not in TOOLS}


def code_of(root: Path, *folders: str) -> Code:
    return Code.read(root, [file for folder in folders for file in sorted((root / folder).rglob("*.py"))])


@pytest.fixture(scope="module")
def starts() -> list[Start]:
    """What the product starts by its own callers, not by the fakes of its tests; and what the tests start."""
    tests = [one for one in code_of(ROOT, *PRODUCT, "tests").starts() if one.place.startswith("tests/")]
    return [*code_of(ROOT, *PRODUCT).starts(), *tests]


def test_no_call_starts_a_program_that_the_list_lacks(starts: list[Start]) -> None:
    wrong = {f"{one.place} ({one.line})": unlisted(one.programs) for one in starts if one.place not in DECLARED}
    assert {place: programs for place, programs in wrong.items() if programs} == {}
    assert len(starts) > 50  # it sees what it is to see


def test_every_declaration_is_about_a_call_that_there_is(starts: list[Start]) -> None:
    assert set(DECLARED) <= {one.place for one in starts}


def test_no_recipe_and_no_script_calls_a_program_that_the_list_lacks() -> None:
    scripts = [file for file in (ROOT / ".ci").iterdir() if file.is_file()]
    programs = make_programs((ROOT / "Makefile").read_text())
    programs |= {program for file in scripts for program in programs_of(file.read_text())}
    assert unlisted(programs) == set()
    assert {"uv", "awk", "make"} <= programs


@pytest.mark.parametrize(
    ("source", "programs"),
    [
        ("import subprocess\nsubprocess.run(['frobnicate', '-x'])", {"frobnicate"}),
        ("from subprocess import Popen as P\nP(('/usr/sbin/frobnicate',))", {"frobnicate"}),
        ("import subprocess as s\ndef f(c):\n    s.check_output(c)\nf(['one'])\nf(['two', 'x'])", {"one", "two"}),
        ("import subprocess\nA = ['frob']\nsubprocess.run([*A, 'x'] + ['y'])", {"frob"}),
        ("import subprocess\nsubprocess.run('frob x | nicate', shell=True)", {"frob", "nicate"}),
        ("import os\nos.system('frob && nicate')", {"frob", "nicate"}),
        ("import os\nos.execvp('frob', ['frob'])", {"frob"}),
        ("import os\nos.spawnlp(os.P_WAIT, 'frob', 'frob')", {"frob"}),
        ("import asyncio\nasync def f():\n    await asyncio.create_subprocess_exec('frob', 'x')", {"frob"}),
        ("import subprocess\nsubprocess.run(['sh', '-c', 'cd /; X=1 frob $(nicate)'])", {"sh", "frob", "nicate"}),
        ("import subprocess\nsubprocess.run(['nice', '-n5', 'frob'])", {"nice", "frob"}),
        ("import subprocess\nsubprocess.run(['setpriv', '--pdeathsig', 'TERM', '--', 'frob'])", {"setpriv", "frob"}),
        (
            "import subprocess\nN = ('nice', '--')\ndef f(c):\n    subprocess.run([*N, *c])\nf(['frob'])",
            {"nice", "frob"},
        ),
        ("import shutil, subprocess\nfound = shutil.which('frob')\nsubprocess.run([found])", {"frob"}),
        ("import subprocess\nsubprocess.run([str(binaries.ensure('frob'))])", {"frob"}),
        ("import subprocess, sys\nsubprocess.run([sys.executable])", {"python3.11"}),
        ("import subprocess\ndef f(x):\n    subprocess.run(['a' if x else 'b'])", {"a", "b"}),
        (
            "import subprocess\nclass A:\n    def __init__(self, p):\n        self._p = p\n"
            "    def f(self):\n        subprocess.run([str(self._p)])\nA('frob')",
            {"frob"},
        ),
        ("import subprocess\nimport os\nsubprocess.run([os.environ['TOOL'] + 'x'])", {"?"}),
        ("import subprocess\ndef f(command):\n    subprocess.run(command)", {"?"}),
    ],
)
def test_programs_are_read_from_code(tmp_path: Path, source: str, programs: set[str]) -> None:
    (tmp_path / "code.py").write_text(source)
    assert {program for one in code_of(tmp_path, ".").starts() for program in one.programs} == programs


def test_programs_are_read_from_recipes() -> None:
    makefile = "TOOL = bin/frob\nall:\n\t@A=1 $(TOOL) x; for i in a b; do nicate $$i >out; done\n\t-$(MAKE) other\n"
    assert make_programs(makefile) == {"frob", "nicate", "make", "bash"}


def test_every_program_names_how_it_is_had() -> None:
    for tool in TOOLS.values():
        assert tool.release or tool.wheel or tool.go or tool.debian or tool.environment or tool.named, tool.name
