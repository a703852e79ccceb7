import os
import re
from pathlib import Path

import pytest

from star_cli.images.content import content_hash, files_below, lay_out
from star_cli.images.errors import ImagesError
from star_cli.images.plan import Options, PlannedImage, chart_values, plan
from star_cli.images.recipes import RECIPES, ROLES, Recipe, Variant

ROOT = Path(__file__).parents[3]
BOTH = [(recipe, variant) for recipe in RECIPES.values() for variant in recipe.variants]

every_image = pytest.mark.parametrize(("recipe", "variant"), BOTH, ids=lambda value: getattr(value, "name", value))


def by_name(images: list[PlannedImage]) -> dict[str, PlannedImage]:
    return {image.name: image for image in images}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small repository that all images can be planned from."""
    for recipe in RECIPES.values():
        for variant in recipe.variants:
            for path in recipe.files(variant):
                source = ROOT / path
                if source.is_dir():
                    (tmp_path / path).mkdir(parents=True, exist_ok=True)
                    (tmp_path / path / "code.py").write_text(f"# {path}\n")
                else:
                    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                    (tmp_path / path).write_text(f"# {path}\n")
    return tmp_path


def test_every_role_is_planned_after_what_it_stands_on() -> None:
    images = plan(ROOT, [], Options())
    assert {image.name for image in images if image.role} == set(ROLES)
    seen: set[str] = set()
    for image in images:
        assert image.parent is None or image.parent.reference in seen
        seen.add(image.reference)


def test_a_tag_names_the_variant_and_a_hash() -> None:
    for image in plan(ROOT, [], Options(Variant.CUDA)):
        assert re.fullmatch(r"localhost:5000/star/[a-z]+:(cpu|cuda)-[0-9a-f]{12}", image.reference)
        assert (image.repository, image.tag) == (f"star/{image.name}", image.reference.rpartition(":")[2])


def test_roles_without_a_cuda_variant_serve_both_kinds_of_pools() -> None:
    cpu, cuda = (by_name(plan(ROOT, [], Options(variant))) for variant in Variant)
    assert cuda["jobs"].reference == cpu["jobs"].reference
    assert cuda["vllm"].reference != cpu["vllm"].reference


def test_rollout_brings_its_own_torch_on_cuda_alone() -> None:
    cpu, cuda = (by_name(plan(ROOT, ["rollout"], Options(variant))) for variant in Variant)
    assert "torch" in cpu
    assert "torch" not in cuda


def test_a_change_below_changes_all_that_stands_on_it(checkout: Path) -> None:
    before = by_name(plan(checkout, [], Options()))
    (checkout / "images/locks/torch-cpu.txt").write_text("torch==9\n")
    after = by_name(plan(checkout, [], Options()))
    changed = {name for name, image in after.items() if image.reference != before[name].reference}
    assert changed == {"torch", "vllm", "trainer", "rollout"}


def test_a_change_of_the_operator_leaves_the_jobs_images_alone(checkout: Path) -> None:
    before = by_name(plan(checkout, [], Options()))
    (checkout / "operator/star_operator/code.py").write_text("changed = True\n")
    after = by_name(plan(checkout, [], Options()))
    assert {name for name in after if after[name].reference != before[name].reference} == {"operator"}


def test_neither_time_nor_caches_nor_the_registry_count(checkout: Path) -> None:
    before = [image.tag for image in plan(checkout, [], Options())]
    os.utime(checkout / "jobs/star_jobs/code.py", (0, 0))
    (checkout / "jobs/star_jobs/__pycache__").mkdir()
    (checkout / "jobs/star_jobs/__pycache__/code.pyc").touch()
    assert [image.tag for image in plan(checkout, [], Options(registry="registry.example:5000"))] == before


@pytest.mark.parametrize("options", [Options(base_image="python:3.11"), Options(torch_index="https://example.org/cpu")])
def test_what_the_user_chooses_counts(checkout: Path, options: Options) -> None:
    assert (
        by_name(plan(checkout, ["vllm"], options))["vllm"].tag
        != by_name(plan(checkout, ["vllm"], Options()))["vllm"].tag
    )


def test_a_laid_out_context_has_the_same_hash(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    context = tmp_path_factory.mktemp("context")
    files = files_below(checkout, ["jobs", "images/locks/jobs.txt"])
    lay_out(checkout, files, context)
    assert files_below(context, ["."]) == files
    assert content_hash(context, files, {"A": "b"}) == content_hash(checkout, files, {"A": "b"})


def test_an_unknown_role_is_named_with_those_that_exist() -> None:
    with pytest.raises(ImagesError, match="no image role 'torch'; the roles are vllm, trainer, rollout, jobs"):
        plan(ROOT, ["torch"], Options())


def test_a_missing_file_is_named(checkout: Path) -> None:
    (checkout / "images/locks/jobs.txt").unlink()
    with pytest.raises(ImagesError, match=r"images/locks/jobs\.txt is missing, and an image is made from it"):
        plan(checkout, ["jobs"], Options())


def test_references_become_chart_values() -> None:
    images = plan(ROOT, [], Options())
    values = chart_values(images, Variant.CPU)
    references = {name: image.reference for name, image in by_name(images).items()}
    assert values["image"] == references["operator"]
    roles = set(ROLES) - {"operator"}
    assert values["images"] == {"cpu": {role: references[role] for role in references if role in roles}}


def dockerfile(recipe: Recipe) -> str:
    return (ROOT / recipe.dockerfile).read_text()


@every_image
def test_a_dockerfile_uses_exactly_the_files_of_its_recipe(recipe: Recipe, variant: Variant) -> None:
    """What is copied but not hashed leaves a stale image; what is hashed but not copied, one built for nothing."""
    text = dockerfile(recipe).replace("${VARIANT}", variant.value)
    copied = [
        source for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for source in line.split()[:-1]
    ] + re.findall(r"type=bind,source=([^, ]+)", text)
    given = recipe.files(variant)
    for source in copied:
        assert any(path == source or path.startswith(f"{source}/") or source.startswith(f"{path}/") for path in given)
    for path in given[1:]:
        assert any(path == source or path.startswith(f"{source}/") for source in copied), f"{path} is not used"


@every_image
def test_a_dockerfile_declares_the_arguments_it_is_given(recipe: Recipe, variant: Variant) -> None:
    images = plan(ROOT, [recipe.name] if recipe.role else [], Options(variant, torch_index="https://example.org"))
    image = by_name(images)[recipe.name]
    declared = set(re.findall(r"^ARG ([A-Z_]+)", dockerfile(recipe), re.MULTILINE))
    assert image.arguments.keys() <= declared
    assert ("PARENT" if image.parent else "BASE_IMAGE") in declared


@pytest.mark.parametrize("role", ROLES)
def test_a_role_runs_as_an_unprivileged_user(role: str) -> None:
    assert re.findall(r"^USER (.+)$", dockerfile(RECIPES[role]), re.MULTILINE)[-1] == "65532:65532"


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_a_dockerfile_bakes_no_configuration_of_a_machine_in(recipe: Recipe) -> None:
    text = dockerfile(recipe)
    assert not re.search(r"https?://|--index|UV_DEFAULT_INDEX", text)
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("RUN") and "/opt/tools/" in line:
            assert "--mount=type=bind,from=tools,target=/opt/tools" in line
