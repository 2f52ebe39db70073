"""The commands of `aldvae data`: list, fetch, verify and look at the datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aldvae.config.execution import Execution
from aldvae.config.presets import PRESETS
from aldvae.utils.errors import AldvaeError

data_app = typer.Typer(help="List, fetch, verify and look at the built-in datasets.", invoke_without_command=True)
DataDir = Annotated[Path | None, typer.Option(help="Where datasets lie (or ALDVAE_DATA_DIR).")]
Names = Annotated[list[str] | None, typer.Argument(help="Datasets; without one, all that are there.")]


@data_app.callback()
def data_list(context: typer.Context, data_dir: DataDir = None) -> None:
    """List the datasets: size, classes, network, and where they are."""
    from aldvae.data.catalogue import dataset_table

    if context.invoked_subcommand is None:
        classes = {name: str(preset.clusters) for name, preset in PRESETS.items()}
        networks = {name: preset.network for name, preset in PRESETS.items()}
        print(dataset_table(*_directories(data_dir), {"classes": classes, "network": networks}))


@data_app.command("fetch")
def data_fetch(
    names: Annotated[list[str], typer.Argument(help="Datasets to download.")], data_dir: DataDir = None
) -> None:
    """Download datasets that are missing."""
    from aldvae.data.catalogue import find_sources

    for source, samples in find_sources(names, *_directories(data_dir)):
        print(f"{source.name}: {len(samples())} samples are there")


@data_app.command("verify")
def data_verify(names: Names = None, data_dir: DataDir = None) -> None:
    """Compare counts and checksums with the originals."""
    from aldvae.data.catalogue import find_sources

    directories, problems = _directories(data_dir), 0
    for source, _ in find_sources(names, *directories):
        problem = source.verify(*directories)
        print(f"{source.name}: {problem or 'as the original'}")
        problems += bool(problem)
    if problems:
        raise AldvaeError(f"{problems} of the datasets differ; delete them to have them downloaded again")


@data_app.command("sheet")
def data_sheet(
    names: Names = None,
    output_dir: Annotated[Path, typer.Option(help="Where the images are written.")] = Path(),
    data_dir: DataDir = None,
) -> None:
    """Draw a contact sheet of each dataset: a row for each class."""
    from aldvae.data.catalogue import find_sources
    from aldvae.data.contact_sheet import draw_sheet

    for source, samples in find_sources(names, *_directories(data_dir)):
        print(draw_sheet(source.name, samples(), source.credit, output_dir))


def _directories(data_dir: Path | None) -> tuple[Path | None, Path]:
    """Return where datasets lie (None: in the cache) and the cache."""
    execution = Execution(data_dir=data_dir)
    return execution.data_directory, execution.cache_directory
