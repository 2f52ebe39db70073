"""The command line."""

from aldvae.cli.commands import app, main

__all__ = ["app", "main"]
