"""A setting becomes an option of the command line, and the values of options become settings again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import MISSING, Field
from typing import Annotated, Any, ClassVar, Protocol, TypeVar, get_type_hints

import typer

from aldvae.config.options import flag, option_fields
from aldvae.config.resolve import Overrides
from aldvae.config.run_config import SECTIONS

Command = Callable[..., None]
Section = TypeVar("Section")


class Sectioned(Protocol):
    """A class of settings with the heading of its options in ``--help``."""

    panel: ClassVar[str]


def options(
    app: typer.Typer, *sections: type[Sectioned], without: Collection[str] = (), **texts: tuple[str, str]
) -> Callable[[Command], Command]:
    """Make a function of keywords a subcommand of `app` with the settings of `sections` as options.

    Settings named in `without` are left out. `texts` are further options that take text, each with its panel and help.
    """

    def register(command: Command) -> Command:
        parameters = [_text_option(name, panel, text) for name, (panel, text) in texts.items()]
        parameters += [
            _option(f, section) for section in sections for f in option_fields(section) if f.name not in without
        ]
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


def make(section: type[Section], values: dict[str, Any], **more: Any) -> Section:
    """Return a `section` with the options among `values`; an option that is not set keeps its default."""
    names = [f.name for f in option_fields(section)]
    return section(**more, **{name: values[name] for name in names if values.get(name) is not None})


def overrides(values: dict[str, Any]) -> Overrides:
    """Return the settings of a run among the `values` of options, and the protocol."""
    names = [f.name for f in option_fields(*SECTIONS) if f.name != "dataset"]
    return Overrides({name: values[name] for name in names if name in values}, values["protocol"])


def _text_option(name: str, panel: str, text: str) -> inspect.Parameter:
    annotation = Annotated[str | None, typer.Option(flag(name), help=text, rich_help_panel=panel)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _option(declared: Field[Any], section: type[Sectioned]) -> inspect.Parameter:
    """Return a setting as an option whose default None means "not set", so that a preset can fill it in."""
    hint, name = get_type_hints(section)[declared.name], flag(declared.name)
    option = typer.Option(
        f"{name}/{flag(declared.name, negative=True)}" if hint is bool else name,
        help=_help(declared),
        rich_help_panel=section.panel,
        show_default=False,
    )
    default = declared.default if declared.name == "dataset" else None
    annotation = Annotated[hint | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(declared.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _help(declared: Field[Any]) -> str:
    """Return the help with the default as text: the option's own default is None."""
    default = "the dataset's" if declared.default is MISSING else declared.default
    shown, text = declared.metadata["shown"] or default, str(declared.metadata["help"])
    return text if shown is None else f"{text} Default: {shown}."
