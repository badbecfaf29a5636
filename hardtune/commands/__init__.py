"""The commands of ``python -m hardtune``, a file each.

A command is a module here with a docstring, whose first line the list of commands shows and all of which its
``--help``, a function ``add_flags(parser)``, and a function ``run(options)`` that returns the exit code.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from hardtune.command_line import run_and_exit
from hardtune.warned import pass_on

COMMANDS = ("hardest", "plan", "results", "export", "stability", "store", "doctor")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command that the arguments name, and exit: 0 done, 1 something is wrong, 2 invalid input, 130 stopped."""
    options = parser().parse_args(arguments)
    pass_on(lambda sentence: print(sentence, file=sys.stderr))
    run_and_exit(lambda: options.run(options))


def parser() -> argparse.ArgumentParser:
    """The flags of every command."""
    flags = argparse.ArgumentParser(
        prog="python -m hardtune",
        description="Inspect a sweep before and after it runs. Sweeps themselves are scripts: python sweeps/digits.py",
        allow_abbrev=False,
    )
    commands = flags.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"hardtune.commands.{name}")
        assert module.__doc__ is not None
        command = commands.add_parser(
            name,
            help=module.__doc__.splitlines()[0].rstrip("."),
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_flags(command)
        command.set_defaults(run=module.run)
    return flags
