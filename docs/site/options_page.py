"""The page of all commands and options, made from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import typer

from aldvae.cli.commands import app


def options_page() -> str:
    """Return the page in Markdown: a chapter for each command, a table for each subject of its options."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("aldvae", [], resilient_parsing=True)
    chapters = [text for name in command.commands for text in _chapters(command.commands[name], context)]
    return "\n".join(["# All options", "", _INTRODUCTION, "", *chapters])


_INTRODUCTION = (
    "This page is made from the commands and shows what `aldvae COMMAND --help` prints. [The command line]"
    "(command-line.md) tells what the commands are for, and what they leave and return."
)


def _chapters(command: Any, parent: Any) -> Iterator[str]:
    context = command.make_context(command.name, [], parent=parent, resilient_parsing=True)
    yield f"## `{context.command_path}`\n\n{_paragraphs(command.help)}\n"
    yield f"    {context.command_path} {' '.join(command.collect_usage_pieces(context))}\n"
    for panel, parameters in groupby(command.params, key=_panel):
        rows = [row for parameter in parameters if (row := parameter.get_help_record(context)) is not None]
        if rows:
            yield "\n".join(
                [f"| {panel} | |", "| --- | --- |", *(f"| `{name}` | {_cell(text)} |" for name, text in rows)]
            )
            yield ""
    for subcommand in getattr(command, "commands", {}).values():
        yield from _chapters(subcommand, context)


def _panel(parameter: Any) -> str:
    default = "Arguments" if parameter.param_type_name == "argument" else "Options"
    return getattr(parameter, "rich_help_panel", None) or default


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
