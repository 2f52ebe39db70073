"""The command line: parses, calls, prints; nothing else. Torch is imported only by what needs it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field
from typing import Annotated, Any, get_type_hints

import typer

from aldvae import __version__
from aldvae.config import Execution, RunConfig, flag, resolve, settings
from aldvae.errors import AldvaeError

app = typer.Typer(
    name="aldvae",
    help="How large should the latent space of a variational autoencoder be? Found in one training run.",
    pretty_exceptions_enable=False,
    add_completion=False,
)

Command = Callable[[RunConfig, Execution], None]


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run_command(kind: str) -> Callable[[Command], Command]:
    """Make a function of (configuration, execution) a subcommand with the options of both."""

    def register(command: Command) -> Command:
        def called(**values: Any) -> None:
            execution = {f.name: values.pop(f.name) for f in settings(Execution)}
            given = {name: value for name, value in execution.items() if value is not None}
            command(resolve(kind, **values), Execution(**given))

        parameters = [_parameter(f, declared) for declared in (RunConfig, Execution) for f in settings(declared)]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(command.__name__, help=command.__doc__)(called)
        return command

    return register


def _parameter(setting: Field[Any], declared: type) -> inspect.Parameter:
    """Turn a setting into an option; None stands for "not given", so that the protocol can fill it in."""
    hint = get_type_hints(declared)[setting.name]
    name = f"{flag(setting.name)}/{flag(setting.name, negative=True)}" if hint is bool else flag(setting.name)
    option = typer.Option(
        name,
        help=setting.metadata["help"],
        rich_help_panel=setting.metadata["panel"],
        show_default="the dataset's" if setting.default is MISSING else str(setting.default or ""),
    )
    default = setting.default if setting.name == "dataset" else None
    annotation = Annotated[hint | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


@run_command("adaptive")
def adaptive(config: RunConfig, execution: Execution) -> None:
    """Find a latent size: start large, remove neurons while training, stop where the rule says.

    Without options, the embedded digits. The same command resumes a run that was interrupted.
    """
    from aldvae.figures import draw_overview
    from aldvae.progress import Display
    from aldvae.training import run

    with Display() as display:
        outcome = run(config, execution, display)
        if outcome.skipped:
            display.note("this run was finished before; nothing was trained")
    picture = outcome.path / "overview.png"
    if not picture.exists():
        draw_overview(outcome.path)
    print(_answer(config, outcome.summary))
    for label, name in (
        ("picture", picture.name),
        ("metrics", "metrics.csv"),
        ("model", "model.safetensors"),
    ):
        print(f"{label:8} {outcome.path / name}")


def _answer(config: RunConfig, summary: dict[str, Any]) -> str:
    size, epoch, epochs = summary["stop_latent_dim"], summary["stop_epoch"], config.epochs
    how = f"rule {config.rule}, from {config.init_dim}"
    if epoch is None:
        return f"No size found: {how}, did not stop within {epochs} epochs; {summary['latent_dim']} was reached."
    if not config.stop:
        return f"Would have stopped at latent size {size}, at epoch {epoch} of {epochs} ({how})."
    return f"Latent size {size}, found at epoch {epoch} of {epochs} ({how})."


def main() -> None:
    """Run the command line; what a user can cause or meet is one line on standard error, without a traceback."""
    try:
        code = app(standalone_mode=False)
    except AldvaeError as error:
        code = _complain(str(error), error.exit_code)
    except typer.TyperException as error:
        code = _complain(" ".join(error.format_message().split()), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = _complain("interrupted; the same command goes on from the last finished epoch", 130)
    sys.exit(code or 0)


def _complain(message: str, code: int) -> int:
    print(f"aldvae: {message}", file=sys.stderr)
    return code
