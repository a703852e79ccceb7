"""What counts as a command that a document shows: contract/test_commands.py runs each of these."""

import typer

from tests.support import commands

PAGE = """\
Run `make demo`, or `starctl local up`; `make` alone is a word, and `a: b` none.

    starctl follow -n mine        # until all have ended
    watch event ──> Key

- a list whose second line is indented
    make of it what you like

```sh
terraform apply
curl -s localhost:8080/x \\
  -d '{"a":
       1}'
```

```yaml
kubectl: no
```
"""


def texts(found: list[commands.Command]) -> list[str]:
    return [one.text for one in found]


def test_a_page_shows_fences_whole_and_what_begins_with_a_program() -> None:
    assert texts(commands.of_markdown("page.md", PAGE)) == [
        "terraform apply",
        "curl -s localhost:8080/x    -d '{\"a\":\n       1}'",
        "starctl follow -n mine",
        "make demo",
        "starctl local up",
    ]


def test_a_command_knows_its_line() -> None:
    places = {one.text.split()[0]: one.place for one in commands.of_markdown("page.md", PAGE)}
    assert places["terraform"] == "page.md:10"
    assert places["curl"] == "page.md:11"


def test_comments_and_notes_speak_prose_too() -> None:
    text = "# It's Kubernetes' own.\n#   kubectl get \\\n#     star\nkey: value  # kubectl is not shown here\n"
    assert texts(commands.of_comments("x.yaml", text)) == ["kubectl get       star"]
    assert texts(commands.of_notes("NOTES.txt", "the store's key:\n  kubectl get recsys -A\n")) == [
        "kubectl get recsys -A"
    ]


def test_help_texts_are_read_down_to_the_options() -> None:
    app = typer.Typer(help="Begin with `make setup`.")

    @app.callback()
    def root() -> None:
        """Begin with `make setup`."""

    @app.command()
    def up(name: str = typer.Option("x", help="As in `starctl local up`.")) -> None:
        """Undone by `starctl local down`."""

    found = texts(list(commands.of_help(typer.main.get_command(app), "x")))
    assert found == ["make setup", "starctl local down", "starctl local up"]
