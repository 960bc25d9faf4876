"""The life of a command: words are read and checked, then what is heavy is imported and run.

Imports no torch, so that --help, --show-config and a mistyped key answer at once. A mistake of the
user ends in one sentence on stderr and exit code 1.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

from ssl_parts.configuration.suggest import did_you_mean
from ssl_parts.errors import ConfigError, SslPartsError

OPTION_NOTE = "changes to the recipe, as data=cub data.root=DIR"


@dataclass(frozen=True)
class Command:
    """One command. Functions are named as "module:function" and imported when they are needed.

    Attributes:
        name: after `ssl-parts`.
        help: what it does, with examples.
        act: called with (configuration, options), or with (options) where there is no schema.
        compose: called with (recipe, words); gives the configuration, not yet checked. None: the
            command reads options only.
        recipe: the recipe unless another is named; None: keys alone make the configuration.
        options: adds options of its own.
    """

    name: str
    help: str
    act: str
    compose: str | None = None
    recipe: str | None = None
    options: Callable[[argparse.ArgumentParser], None] | None = None

    @property
    def summary(self) -> str:
        """The first sentence of `help`, in one line."""
        return " ".join(self.help.split("\n\n")[0].split())


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are one sentence, with the nearest known option."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 and one sentence."""
        wrong = message.partition("unrecognized arguments: ")[2].split()
        known = [name for action in self._actions for name in action.option_strings]
        near = did_you_mean(wrong[0].partition("=")[0], known) if wrong else ""
        self.exit(2, f"{self.prog}: {message}{near}; --help lists the options\n")


def run_command(command: Command, words: Sequence[str] | None = None) -> None:
    """Read the words, check the configuration, then act; exit with one sentence on a mistake.

    Args:
        words: the command line without the program's name; None for that of this process.
    """
    stream_settings()
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    options = parse_words(command, sys.argv[1:] if words is None else words)
    try:
        act_on(command, options)
    except SslPartsError as error:
        sys.stdout.flush()
        sys.exit(f"{type(error).__name__}: {error}")
    except BrokenPipeError:  # the reader of our output has gone: nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def act_on(command: Command, options: argparse.Namespace) -> None:
    """Compose and check the configuration, or show it; then import what acts, and call it."""
    if command.compose is None:
        load(command.act)(options)
        return
    config = load(command.compose)(options.config_name, options.words)
    if options.show_config:
        show_config(config)
        return
    config.check()
    load(command.act)(config, options)


def show_config(config: Any) -> None:
    """Print a configuration as YAML, and what is missing in it to stderr."""
    compose = import_module("ssl_parts.configuration.compose")
    print(compose.to_yaml(config))
    try:
        config.check()
    except ConfigError as error:
        print(f"# not ready to run: {error}", file=sys.stderr)


def parse_words(command: Command, words: Sequence[str]) -> argparse.Namespace:
    """Options and key=value words in any order.

    In `--seeds 0 1 2 data=cub` argparse alone would take the key for a seed, so words with "=" are
    set aside first.
    """
    parser = Parser(
        prog=f"ssl-parts {command.name}",
        description=command.help,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if command.compose is not None:
        add_configuration(parser, command.recipe)
    if command.options is not None:
        command.options(parser)
    if command.compose is None:
        return parser.parse_args(list(words))
    changes = [word for word in words if "=" in word and not word.startswith("-")]
    rest = [word for word in words if word not in changes]
    options = parser.parse_intermixed_args(rest)
    options.words = [*options.words, *changes]
    return options


def add_configuration(parser: argparse.ArgumentParser, recipe: str | None) -> None:
    """Add the options that every command with a configuration has."""
    name = "the recipe: a file of configs/, without folder and .yaml (default: %(default)s)"
    parser.add_argument("--config-name", default=recipe, help=name if recipe else argparse.SUPPRESS)
    parser.add_argument(
        "--show-config", action="store_true", help="print the whole configuration and stop"
    )
    parser.add_argument("words", nargs="*", metavar="key=value", help=OPTION_NOTE)


def load(address: str) -> Callable[..., Any]:
    """The function at "module:function"."""
    module, _, name = address.partition(":")
    return getattr(import_module(module), name)


def stream_settings() -> None:
    """Let terminals without Unicode show what they can in place of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
