"""`ssl-parts COMMAND ...`, and `run(NAME)` for the scripts of launch/."""

import sys
from collections.abc import Sequence

import ssl_parts
from ssl_parts.commands.command import run_command
from ssl_parts.commands.table import COMMANDS
from ssl_parts.configuration.suggest import did_you_mean


def run(name: str, words: Sequence[str] | None = None) -> None:
    """Run a command by name with these words, or with those of this process."""
    run_command(COMMANDS[name], words)


def main(words: Sequence[str] | None = None) -> None:
    """The entry point `ssl-parts`: the first word names the command, the others are its own."""
    words = list(sys.argv[1:] if words is None else words)
    name = words[0] if words else "--help"
    if name in ("-h", "--help"):
        print(usage())
    elif name == "--version":
        print(f"ssl-parts {ssl_parts.__version__}")
    elif name in COMMANDS:
        run(name, words[1:])
    else:
        sys.exit(f"ssl-parts has no command {name!r}{did_you_mean(name, COMMANDS)}\n\n{usage()}")


def usage() -> str:
    """The commands, a line each."""
    lines = [f"  {name:<9} {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: ssl-parts COMMAND [options] [key=value ...]",
            "",
            *lines,
            "",
            "ssl-parts COMMAND --help says more.",
        ]
    )
