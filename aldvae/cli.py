"""The command line: parses, calls, prints; nothing else. Torch is imported only by what needs it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from aldvae import __version__
from aldvae.config import RunConfig, own_data, resolve
from aldvae.errors import AldvaeError
from aldvae.execution import Execution
from aldvae.settings import flag, settings

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
            given = {f.name: values.pop(f.name) for f in settings(Execution)}
            execution = _execution(own_data=own_data(values["dataset"]), **given)
            command(resolve(kind, execution=execution, **values), execution)

        parameters = [_parameter(f, declared) for declared in (RunConfig, Execution) for f in settings(declared)]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(command.__name__, help=command.__doc__)(called)
        return command

    return register


def _execution(**given: Any) -> Execution:
    return Execution(**{name: value for name, value in given.items() if value is not None})


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


data_app = typer.Typer(help="List, fetch, verify and look at the datasets known by name.", invoke_without_command=True)
app.add_typer(data_app, name="data")

DataDir = Annotated[Path | None, typer.Option(help="Where datasets lie (or ALDVAE_DATA_DIR).")]
Names = Annotated[list[str] | None, typer.Argument(help="Datasets; without one, all that are there.")]


@data_app.callback()
def data_list(context: typer.Context, data_dir: DataDir = None) -> None:
    """List the datasets: size, classes, network, and where they are."""
    from aldvae.data.catalogue import listing

    if context.invoked_subcommand is None:
        print(listing(_execution(data_dir=data_dir)))


@data_app.command("fetch")
def data_fetch(
    names: Annotated[list[str], typer.Argument(help="Datasets to download.")], data_dir: DataDir = None
) -> None:
    """Download datasets that are missing."""
    from aldvae.data.catalogue import chosen

    for source, samples in chosen(names, _execution(data_dir=data_dir)):
        print(f"{source.name}: {len(samples())} samples are there")


@data_app.command("verify")
def data_verify(names: Names = None, data_dir: DataDir = None) -> None:
    """Compare counts and checksums with the originals."""
    from aldvae.data.catalogue import chosen

    execution, problems = _execution(data_dir=data_dir), 0
    for source, _ in chosen(names, execution):
        problem = source.verify(execution.data_directory, execution.cache_directory)
        print(f"{source.name}: {problem or 'as the original'}")
        problems += bool(problem)
    if problems:
        raise AldvaeError(f"{problems} of the datasets differ; delete them to have them downloaded again")


@data_app.command("sheet")
def data_sheet(
    names: Names = None,
    output_dir: Annotated[Path, typer.Option(help="Where the pictures are written.")] = Path(),
    data_dir: DataDir = None,
) -> None:
    """Draw a contact sheet of each dataset: a row for each class."""
    from aldvae.data.catalogue import chosen
    from aldvae.data.sheet import draw_sheet

    for source, samples in chosen(names, _execution(data_dir=data_dir)):
        print(draw_sheet(source.name, samples(), source.credit, output_dir))


def main() -> None:
    """Run the command line; what a user can cause or meet is one line on standard error, without a traceback."""
    try:
        code = app(standalone_mode=False)
    except AldvaeError as error:
        code = _complain(str(error), error.exit_code)
    except typer.TyperException as error:
        code = _complain(" ".join(error.format_message().split()), 2)
    except OSError as error:
        code = _complain(f"{error.filename or 'a file'}: {error.strerror or error}; name another place, or mend it", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = _complain("interrupted; the same command goes on from the last finished epoch", 130)
    sys.exit(code or 0)


def _complain(message: str, code: int) -> int:
    print(f"aldvae: {message}", file=sys.stderr)
    return code
