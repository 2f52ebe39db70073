"""The documentation site: links, pages made of other files, outputs of commands. `make docs` builds and checks it."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from aldvae.cli.commands import app

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs" / "site"


def script(path: Path) -> Any:
    return runpy.run_path(str(path))


links, check, outputs = script(SITE / "links.py"), script(SITE / "check.py"), script(ROOT / "docs" / "outputs.py")


@pytest.mark.parametrize(
    ("link", "page", "rewritten"),
    [
        ("[a](runs.md#files)", "docs/data.md", "[a](runs.md#files)"),
        ("[a](../README.md)", "docs/data.md", "[a](index.md)"),
        ("[a](docs/architecture.md)", "CONTRIBUTING.md", "[a](architecture.md)"),
        ("[a](../docs/data.md#images)", "benchmarks/README.md", "[a](data.md#images)"),
        ("[`a`](../benchmarks/README.md)", "docs/data.md", "[`a`](speed.md)"),
        ("[a](../benchmarks)", "docs/data.md", "[a](speed.md)"),
        ("[the `plans`](../experiments)", "docs/data.md", "the `plans`"),
        ("![a b](../results/a.png)", "docs/data.md", "![a b](files/results/a.png)"),
        ("[![a](../results/a.png)](runs.md)", "docs/data.md", "[![a](files/results/a.png)](runs.md)"),
        ("[a](../experiments/digits.toml)", "docs/data.md", "[a](sources/experiments/digits.toml.md)"),
        ("[a](examples/a.py)", "docs/data.md", "[a](sources/docs/examples/a.py.md)"),
        ("[a](notebooks/a.ipynb)", "docs/index.md", "[a](notebooks/a.md)"),
        ("[a](../rules.md)", "docs/notebooks/a.ipynb", "[a](../rules.md)"),
        ("[a](https://example.org/a.md) [b](#here)", "docs/data.md", "[a](https://example.org/a.md) [b](#here)"),
    ],
)
def test_links_lead_to_places_in_the_site(link: str, page: str, rewritten: str) -> None:
    assert links["rewrite"](f"See {link}.", page, ROOT) == f"See {rewritten}."


def test_a_link_names_the_file_it_needs() -> None:
    text = "[a](../results/a.csv#x), ![b](images/b.png), [c](https://example.org), [d](#d)"
    assert list(links["targets"](text, "docs/data.md")) == ["results/a.csv", "docs/images/b.png"]


def site_of(folder: Path, **pages: str) -> Path:
    for name, body in pages.items():
        (folder / f"{name}.html").write_text(f"<html><body>{body}</body></html>")
    return folder


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="other.html#there">x</a>', ""),
        ('<a href="#here">x</a><b id="here">x</b>', ""),
        ('<a href="https://example.org/">x</a>', ""),
        ('<a href="missing.html">x</a>', "index.html: missing.html leads nowhere"),
        ('<img src="missing.png">', "index.html: missing.png leads nowhere"),
        ('<a href="other.html#gone">x</a>', "index.html: other.html#gone has an anchor that other.html lacks"),
        ('<a href="#gone">x</a>', "index.html: #gone has an anchor that index.html lacks"),
        (
            '<script src="https://example.org/a.js"></script>',
            "index.html: https://example.org/a.js is loaded from another host",
        ),
        (
            '<link rel="stylesheet" href="//example.org/a.css">',
            "index.html: //example.org/a.css is loaded from another host",
        ),
    ],
)
def test_dead_links_of_the_built_site_are_found(
    body: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = site_of(tmp_path, index=body, other='<h2 id="there">x</h2>')
    assert check["main"](site) == bool(problem)
    assert capsys.readouterr().err.strip() == problem


def test_a_folder_that_is_no_site_is_refused(tmp_path: Path) -> None:
    assert check["main"](tmp_path) == 2


def test_the_page_of_options_has_every_option_of_every_command() -> None:
    page = script(SITE / "options_page.py")["options_page"]()
    command: Any = typer.main.get_command(app)
    for name, subcommand in command.commands.items():
        _, _, rest = page.partition(f"## `aldvae {name}`\n")
        chapter = rest.partition("\n## ")[0]
        for parameter in subcommand.params:
            names = (
                [parameter.metavar] if parameter.param_type_name == "argument" and parameter.metavar else parameter.opts
            )
            for text in (*names, *parameter.secondary_opts):
                # An argument is named in capitals.
                assert text in chapter or text.upper() in chapter, (name, text)
    assert "## `aldvae data fetch`" in page
    assert "| `--beta <float>` | Weight of the KL divergence in the loss. Default: 1.0. |" in page


def test_a_notebook_becomes_a_page_with_its_text_and_code() -> None:
    notebook_page = script(SITE / "notebooks.py")["notebook_page"]
    for path in (ROOT / "docs" / "notebooks").glob("*.ipynb"):
        page = notebook_page(path)
        assert page.startswith("# ")
        assert f'<a href="../{path.name}" download>' in page
        assert page.count("\n```python\n") == path.read_text().count('"cell_type": "code"')


def test_the_menu_names_pages_that_exist() -> None:
    menu = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    pages = set(re.findall(r": (\S+\.md)$", menu, re.MULTILINE))
    made = {*links["OUTSIDE"].values(), "options.md"}
    notebooks = {f"notebooks/{path.stem}.md" for path in (ROOT / "docs" / "notebooks").glob("*.ipynb")}
    assert pages == {path.name for path in (ROOT / "docs").glob("*.md")} | made | notebooks


def test_literal_blocks_of_docstrings_become_fenced(monkeypatch: pytest.MonkeyPatch) -> None:
    griffe = type(sys)("griffe")
    griffe.Extension = griffe.Object = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "griffe", griffe)
    fenced = script(SITE / "literal_blocks.py")["fenced"]
    assert fenced("Do.\n\n::\n\n    a = 1\n\n    b = 2\n\nArgs:\n    a: one.\n") == (
        "Do.\n\n```python\na = 1\n\nb = 2\n```\n\nArgs:\n    a: one.\n"
    )
    assert fenced("A line that ends with two::\n\n    text\n") == "A line that ends with two::\n\n    text\n"


PAGE = "# T\n\n<!-- output python -c 'print(1 + 1, \"apples\")' -->\n{}<!-- /output -->\n\nEnd.\n"
OUTPUT = "```text\n2 apples\n```\n"


def project(root: Path, text: str) -> Path:
    for name in ("docs", "experiments", "results"):
        (root / name).mkdir()
    page = root / "docs" / "index.md"
    page.write_text(text)
    return page


def test_a_written_output_passes_the_check(tmp_path: Path) -> None:
    page = project(tmp_path, PAGE.format("```text\nold\n```\n"))
    assert outputs["main"]([], tmp_path) == 1
    assert outputs["main"](["--write"], tmp_path) == 0
    assert page.read_text() == PAGE.format(OUTPUT)
    assert outputs["main"]([], tmp_path) == 0


def test_an_output_may_differ_in_numbers_but_not_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = project(tmp_path, PAGE.format(OUTPUT.replace("2", "3")))
    assert outputs["main"]([], tmp_path) == 0
    page.write_text(PAGE.format(OUTPUT.replace("apples", "pears")))
    assert outputs["main"]([], tmp_path) == 1
    assert "not what the command prints" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("ls docs/ind*.md | tr a-z A-Z", "DOCS/INDEX.MD"),
        ("! python -c 'raise SystemExit(2)' && echo refused", "refused"),
        ("python", "above"),
    ],
)
def test_a_command_may_have_pipes_patterns_and_the_python_above(command: str, printed: str, tmp_path: Path) -> None:
    blocks = "```python\nprint('first')\n```\n\n```python\nprint('above')\n```\n\n"
    text = blocks + "<!-- output {} -->\n{}<!-- /output -->\n"
    page = project(tmp_path, text.format(command, ""))
    assert outputs["main"](["--write"], tmp_path) == 0
    assert page.read_text() == text.format(command, f"```text\n{printed}\n```\n")


def test_a_command_that_fails_before_a_pipe_is_reported(tmp_path: Path) -> None:
    project(tmp_path, "<!-- output python -c 'raise SystemExit(1)' | cat -->\n<!-- /output -->\n")
    assert outputs["main"]([], tmp_path) == 1


def test_a_page_that_needs_other_libraries_is_checked_if_it_is_named(tmp_path: Path) -> None:
    project(tmp_path, "").rename(tmp_path / "docs" / "integrations.md").write_text(PAGE.format(""))
    assert outputs["main"]([], tmp_path) == 0
    assert outputs["main"](["integrations.md"], tmp_path) == 1


def test_a_command_that_fails_is_reported_and_the_page_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "<!-- output python -c 'raise SystemExit(\"no\")' -->\n```text\n```\n<!-- /output -->\n"
    page = project(tmp_path, text)
    assert outputs["main"](["--write"], tmp_path) == 1
    assert capsys.readouterr().err.rstrip().endswith(": no")
    assert page.read_text() == text


def test_a_picture_is_copied_from_what_a_command_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = 'python -c \'import pathlib; pathlib.Path("a-1.png").write_bytes(b"png")\''
    page = project(tmp_path, f"<!-- output {command} -->\n<!-- /output -->\n\n<!-- picture a.png from a-*.png -->\n")
    assert outputs["main"](["--write"], tmp_path) == 0
    assert (tmp_path / "docs" / "a.png").read_bytes() == b"png"
    (tmp_path / "docs" / "a.png").unlink()
    assert outputs["main"]([], tmp_path) == 1
    page.write_text("<!-- picture a.png from b-*.png -->\n")
    assert outputs["main"](["--write"], tmp_path) == 1
    assert "no command left b-*.png" in capsys.readouterr().err


@pytest.mark.slow
def test_the_outputs_in_the_pages_are_what_the_commands_print() -> None:
    assert outputs["main"]([], ROOT) == 0
