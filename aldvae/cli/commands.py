"""The command line: parses, calls, prints; nothing else. Torch is imported only by what needs it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aldvae import __version__
from aldvae.cli.data import data_app
from aldvae.cli.options import make, options, overrides
from aldvae.cli.share import card, export
from aldvae.cli.use import encode, reconstruct, sample
from aldvae.config.execution import Execution, Schedule
from aldvae.config.resolve import own_data, resolve
from aldvae.config.run_config import SECTIONS, RunConfig
from aldvae.config.sections import DataConfig, MetricsConfig, ModelConfig, TrainingConfig
from aldvae.runs.records import Summary
from aldvae.sweeps.jobs import JobList, parse_int_list, sweep
from aldvae.utils.errors import AldvaeError, ConfigError
from aldvae.utils.threads import let_waiting_threads_sleep

if TYPE_CHECKING:
    from aldvae.training.loop import Outcome

app = typer.Typer(
    name="aldvae",
    help="How large should the latent space of a variational autoencoder be? Found in one training run.",
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


_PROTOCOL = (
    "Protocol",
    "Defaults of all options left out: paper (the paper's text; default for its datasets), authors (its authors' code) "
    "or recommended (what gives the right size and the best model; default for your own data and digits).",
)


_ANSWER_ONLY = (
    "End as soon as the rule has an answer, and print it; the same command without this option goes on from there, to "
    "the model, the curve and the report."
)
AnswerOnly = Annotated[bool, typer.Option("--answer-only", help=_ANSWER_ONLY, rich_help_panel=Execution.panel)]


@options(app, *SECTIONS, Execution, protocol=_PROTOCOL)
def adaptive(*, answer_only: AnswerOnly = False, **values: Any) -> None:
    """Find a latent size: start large, remove neurons while training, stop where the rule says.

    By default it uses scikit-learn's digits. The same command resumes a run that was interrupted.
    """
    dataset: str = values["dataset"]
    execution = make(Execution, values, own_data=own_data(dataset), answer_only=answer_only)
    config = resolve("adaptive", dataset, overrides(values), execution)
    from aldvae.training.loop import run
    from aldvae.training.progress import Display

    with Display(answer_only) as display:
        outcome = run(config, execution, display)
        if outcome.skipped:
            display.on_message("this run was finished before; nothing was trained")
        if outcome.epoch is not None:
            left = f"left unfinished at epoch {outcome.epoch} of {config.training.epochs}; the answer may still change"
            display.on_message(f"{left}: the same command without --answer-only goes on")
    print(_answer(config, outcome.summary), flush=True)
    if not answer_only:
        _show_evidence(outcome)


def _show_evidence(outcome: Outcome) -> None:
    """Print what the curve says; write figures and report, and print the paths of all files of a finished run."""
    from aldvae.runs.curve import describe_curve

    if curve := describe_curve(outcome.summary):
        print(curve, flush=True)
    # Importing matplotlib takes a second; neither training nor the answer waits for it.
    from aldvae.reporting.evidence import REPORT, write_evidence
    from aldvae.runs.results import MODEL

    write_evidence(outcome.path)
    files = (("picture", "overview.png"), ("metrics", "metrics.csv"), ("curve", "curve.png"))
    for label, name in (*files, ("model", MODEL), ("report", REPORT)):
        if (outcome.path / name).exists():
            print(f"{label:8} {outcome.path / name}")


def _answer(config: RunConfig, summary: Summary) -> str:
    compression, start = config.compression, config.model.init_dim
    assert compression is not None
    from aldvae.runs.results import describe_answer

    size, epoch, epochs = summary["stop_latent_dim"], summary["stop_epoch"], config.training.epochs
    how = f"rule {compression.rule}, from {start}"
    if epoch is None and summary.get("settled_epoch") is None:
        reached = f"{summary['latent_dim']} was reached ({summary.get('reason') or 'no decision was due'})"
        return f"No size found: {how}, did not stop within {epochs} epochs; {reached}."
    if not compression.stop:
        return f"Would have stopped at latent size {size}, at epoch {epoch} of {epochs} ({how})."
    if "n_informative" in summary:
        # Until its stop, the model keeps spares.
        size = max(compression.min_dim, summary["n_informative"]) if size is None else size
        return f"Latent size {size}. {describe_answer(summary)} (rule {compression.rule}, from {start})."
    at_start = compression.rule_class.limited_by_start and size == start > compression.min_dim
    advice = "\nThat is where it started: a larger --init-dim may find more." if at_start else ""
    return f"Latent size {size}, found at epoch {epoch} of {epochs} ({how}).{advice}"


DryRun = Annotated[bool, typer.Option("--dry-run", help="List the runs and the time left; do nothing.")]
_SEEDS = ("Sweep", "Seeds, such as 0-4 or 0,3,7; default: 0-4.")


@options(
    app,
    DataConfig,
    ModelConfig,
    TrainingConfig,
    MetricsConfig,
    Execution,
    Schedule,
    without=("init_dim", "seed"),
    protocol=_PROTOCOL,
    dims=("Sweep", "Latent sizes, such as 4,8,12; default: the dataset's grid."),
    seeds=_SEEDS,
)
def grid(*, dry_run: DryRun = False, **values: Any) -> None:
    """Train a model of fixed size for each latent size and seed: the search that adaptive runs replace."""
    _sweep("grid", dry_run, values)


@options(
    app,
    *SECTIONS,
    Execution,
    Schedule,
    without=("init_dim", "seed"),
    protocol=_PROTOCOL,
    init_dims=("Sweep", "Initial sizes, such as 100,80,64; default: the dataset's."),
    seeds=_SEEDS,
)
def sweep_init(*, dry_run: DryRun = False, **values: Any) -> None:
    """Find a size from several initial sizes, each with several seeds: does the start matter?"""
    _sweep("sweep-init", dry_run, values)


@options(app, *SECTIONS, Execution, Schedule, without=("seed",), protocol=_PROTOCOL, seeds=_SEEDS)
def seeds(*, dry_run: DryRun = False, **values: Any) -> None:
    """Find a size with several seeds: does chance matter?"""
    _sweep("seeds", dry_run, values)


def _sweep(kind: str, dry_run: bool, values: dict[str, Any]) -> None:
    execution, schedule = make(Execution, values), make(Schedule, values)
    texts = {name: values.get(name) for name in ("dims", "init_dims", "seeds")}
    lists = {name: parse_int_list(name, text) for name, text in texts.items() if text is not None}
    sizes, seeds = lists.get("dims") or lists.get("init_dims"), lists.get("seeds")
    jobs = sweep(kind, values["dataset"], overrides(values), execution, sizes=sizes, seeds=seeds)
    _execute(lambda: JobList(jobs), execution, schedule, dry_run)


@options(app, Execution, Schedule)
def run(
    plan: Annotated[Path, typer.Argument(help="A plan file, such as experiments/digits.toml.")],
    *,
    dry_run: DryRun = False,
    **values: Any,
) -> None:
    """Execute all runs of a plan file; run it again to execute what is left."""
    from aldvae.sweeps.plan_file import load_plan

    execution, schedule = make(Execution, values, plan=plan.name), make(Schedule, values)
    loaded = load_plan(plan)
    print(loaded.title, *([loaded.reduces] if loaded.reduces else []), sep="\n", file=sys.stderr)
    _execute(lambda: loaded.jobs(execution), execution, schedule, dry_run)


def _execute(jobs: Callable[[], JobList], execution: Execution, schedule: Schedule, dry_run: bool) -> None:
    from aldvae.reporting.terminal import print_table
    from aldvae.sweeps.runner import describe_sweep, run_sweep

    if dry_run:
        print(describe_sweep(jobs(), execution, schedule))
    else:
        outcome = run_sweep(jobs, execution, schedule)
        print_table(outcome.results)
        outcome.raise_for_failures()


ResultsDir = Annotated[Path, typer.Argument(help="A directory that holds runs, at any depth.")]


@app.command()
def show(
    results_dir: ResultsDir = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list, for scripts.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV, for scripts.")] = False,
) -> None:
    """Show a table of runs: state, epochs, size, final metrics, seconds; and the yardsticks of grid searches."""
    from aldvae.reporting import terminal as tables
    from aldvae.runs.results import read_results

    if as_json and as_csv:
        raise ConfigError("json", "and --csv exclude each other; leave one out")
    results = read_results(results_dir)
    if as_json or as_csv:
        print(tables.as_json(results) if as_json else tables.as_csv(results))
    else:
        tables.print_table(results)


@app.command()
def plot(
    results_dir: ResultsDir = Path("runs"),
    output_dir: Annotated[Path | None, typer.Option(help="Where to write; without it, RESULTS_DIR.")] = None,
    formats: Annotated[str, typer.Option("--format", help="png, pdf or both: png,pdf.")] = "png,pdf",
) -> None:
    """Draw the paper's figures and write its tables, from the runs that exist."""
    from aldvae.reporting.plot import plot_results

    written, missing = plot_results(results_dir, output_dir or results_dir, formats)
    for path in written:
        print(path)
    for line in missing:
        print(f"aldvae: {line}", file=sys.stderr)


@app.command()
def report(
    results_dir: ResultsDir = Path("runs"),
    output: Annotated[Path | None, typer.Option(help="The file; without it, RESULTS_DIR/report.html.")] = None,
) -> None:
    """Write one HTML file with the answer, figures, tables, images, settings and commands."""
    from aldvae.reporting.html_report import write_report

    path = output or results_dir / "report.html"
    write_report(results_dir, path)
    print(path)


for more in (encode, reconstruct, sample, export, card):
    app.command()(more)
app.add_typer(data_app, name="data")

# The base class of typer's errors, two above BadParameter: typer.TyperException, which older versions do not export.
CommandLineError: type[typer.BadParameter] = typer.BadParameter.__mro__[2]


def main() -> None:
    """Run the command line; what a user can cause or meet is one line on standard error, without a traceback."""
    let_waiting_threads_sleep()
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        code = app(standalone_mode=False)
    except AldvaeError as error:
        code = _complain(str(error), error.exit_code)
    except CommandLineError as error:
        code = _complain(" ".join(error.format_message().split()), 2)
    except OSError as error:
        code = _complain(f"{error.filename or 'a file'}: {error.strerror or error}; check the path or name another", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = _complain("interrupted; the same command resumes from the last finished epoch", 130)
    sys.exit(code or 0)


def _complain(message: str, code: int) -> int:
    print(f"aldvae: {message}", file=sys.stderr)
    return code
