"""The errors a user can cause or meet, each a single line that says what to do next."""

from difflib import get_close_matches
from typing import ClassVar


class AldvaeError(Exception):
    """An error whose message is meant for the user; the command line prints it without a traceback."""

    exit_code: ClassVar[int] = 1


class ConfigError(AldvaeError, ValueError):
    """Something asked for makes no sense or cannot be had. Raised before anything is written."""

    exit_code: ClassVar[int] = 2

    def __init__(self, option: str, problem: str) -> None:
        """Name `option` as on the command line (`init_dim` and `--init-dim` are the same) and its problem."""
        self.option = option if option.startswith("-") else "--" + option.replace("_", "-")
        super().__init__(f"{self.option} {problem}")


class BusyError(AldvaeError):
    """Another process is at work on the run."""


class DivergedError(AldvaeError):
    """A loss or metric became NaN or infinite; the rows before that epoch are kept."""


def unknown_name(option: str, name: str, choices: list[str]) -> ConfigError:
    """Return the error for a `name` that is not `choices`, suggesting the nearest."""
    return ConfigError(option, unknown_message(name, choices))


def unknown_message(name: str, choices: list[str]) -> str:
    """Return what to say of a `name` that is not `choices`."""
    near = get_close_matches(name.lower(), choices, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{name} is not known{hint} (there are: {', '.join(choices)})"
