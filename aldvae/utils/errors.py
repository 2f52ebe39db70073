"""Errors that a user can cause or meet. Each message is one line that names the problem and the remedy."""

from difflib import get_close_matches
from typing import ClassVar


class AldvaeError(Exception):
    """An error whose message is meant for the user; the command line prints it without a traceback."""

    exit_code: ClassVar[int] = 1


class ConfigError(AldvaeError, ValueError):
    """An invalid or unavailable option value. Raised before anything is written."""

    exit_code: ClassVar[int] = 2

    def __init__(self, option: str, problem: str) -> None:
        """Build the message ``--option problem``; `option` may be written `init_dim` or `--init-dim`."""
        self.option = option if option.startswith("-") else "--" + option.replace("_", "-")
        super().__init__(f"{self.option} {problem}")


class ArgumentError(AldvaeError, ValueError):
    """An invalid argument of a class or function of the library; the command line names the option instead."""

    exit_code: ClassVar[int] = 2

    def __init__(self, argument: str, problem: str) -> None:
        """Name the `argument` as in Python, and its problem."""
        self.argument, self.problem = argument, problem
        super().__init__(f"{argument} {problem}")


class BusyError(AldvaeError):
    """Another process is working on the same run."""


class DivergedError(AldvaeError):
    """A loss or metric became NaN or infinite. The rows of earlier epochs are kept."""


def unknown_name(option: str, name: str, choices: list[str]) -> ConfigError:
    """Return the error for an `option` whose value `name` is not among the `choices`."""
    return ConfigError(option, unknown_message(name, choices))


def unknown_message(name: str, choices: list[str]) -> str:
    """Return the message for a `name` that is not among the `choices`; it suggests the most similar choice."""
    similar = get_close_matches(name.lower(), choices, n=1, cutoff=0.5)
    hint = f"; did you mean {similar[0]}?" if similar else ""
    return f"{name} is not known{hint} (choose from: {', '.join(choices)})"
