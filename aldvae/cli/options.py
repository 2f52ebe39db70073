"""From settings to options of the command line and back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import MISSING, Field
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from aldvae.config.options import flag, settings

Command = Callable[..., None]
Declared = TypeVar("Declared")


def options(
    app: typer.Typer, *declared: type, without: Collection[str] = (), **extra: tuple[str, str]
) -> Callable[[Command], Command]:
    """Make a function of keywords a subcommand of `app` with the settings of `declared` as options.

    Settings named in `without` are left out; `extra` options are texts, each with its panel and help.
    """

    def register(command: Command) -> Command:
        parameters = [_text_option(name, panel, text) for name, (panel, text) in extra.items()]
        parameters += [_parameter(f, kind) for kind in declared for f in settings(kind) if f.name not in without]
        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters += [parameter for parameter in own if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
        parameters.sort(key=lambda parameter: parameter.kind)

        def called(**values: Any) -> None:
            command(**values)

        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(command.__name__.replace("_", "-"), help=command.__doc__)(called)
        return command

    return register


def _text_option(name: str, panel: str, text: str) -> inspect.Parameter:
    annotation = Annotated[str | None, typer.Option(flag(name), help=text, rich_help_panel=panel)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def take(declared: type[Declared], values: dict[str, Any], **more: Any) -> Declared:
    """Take the settings of `declared` out of `values`; what was not given keeps its default."""
    taken = {f.name: values.pop(f.name, None) for f in settings(declared)}
    return declared(**more, **{name: value for name, value in taken.items() if value is not None})


def _parameter(setting: Field[Any], declared: type) -> inspect.Parameter:
    """Turn a setting into an option; None stands for "not given", so that the protocol can fill it in."""
    hint = get_type_hints(declared)[setting.name]
    name = f"{flag(setting.name)}/{flag(setting.name, negative=True)}" if hint is bool else flag(setting.name)
    option = typer.Option(
        name,
        help=setting.metadata["help"],
        rich_help_panel=setting.metadata["panel"],
        show_default=_shown(setting.default),
    )
    default = setting.default if setting.name == "dataset" else None
    annotation = Annotated[hint | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _shown(default: Any) -> str | bool:
    if default is MISSING:
        return "the dataset's"
    return False if default is None else str(default)
