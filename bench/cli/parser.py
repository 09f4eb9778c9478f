"""The command line: `python -m bench VERB`. Exit codes: 0 it worked, 1 something failed, 2 bad input (one line)."""

from __future__ import annotations

import argparse
import getpass
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn

import yaml

from bench import __version__
from bench.cli import verbs
from bench.errors import is_bad_input
from bench.launching import time_limit

DESCRIPTION = """\
skipbench: does scaling the long skip connections of a diffusion model make it train faster?

  python -m bench plan quick      what the suite would train, and what it costs
  python -m bench run quick       train what is missing; the same command resumes
  python -m bench status quick    how far it is
  python -m bench report quick    tables, figures and verdicts, in one page
"""


class Parser(argparse.ArgumentParser):
    """An argparse whose errors are one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {' '.join(message.split())} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def _time(text: str) -> int:
    try:
        return time_limit.minutes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return float(text)


def _path(text: str) -> Path:
    return Path(os.path.expanduser(text))  # no shell does in `--root=~/x`


def _folder(text: str, mode: int = os.X_OK) -> Path:
    """A folder that can be used, or made in the nearest one above that is there."""
    folder, writes = _path(text), bool(mode & os.W_OK)
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not os.path.isdir(there):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used: {there} is no folder")
    # A file is tried: the permissions of /proc, say, do not tell.
    with suppress(OSError), tempfile.TemporaryFile(dir=there) if writes else nullcontext():
        if os.access(there, mode):
            return folder
    what = "written to" if writes else "entered"
    raise argparse.ArgumentTypeError(f"{text!r} cannot be used: {there} cannot be {what}")


def _writable(text: str) -> Path:
    return _folder(text, os.W_OK | os.X_OK)


def _new_file(text: str) -> Path:
    if os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; give the name of a file")
    return _writable(str(_path(text).parent)) / Path(text).name


TYPES = {"N": _positive, "SEED": _seed, "TIME": _time, "SECONDS": _seconds, "PATH": _path}
TYPES |= {"DIR": _folder, "OUTDIR": _writable, "OUTFILE": _new_file}


def parser() -> Parser:
    """The whole command line. A verb is the function of its name in `verbs`, its help that docstring; for its options
    see options.yaml."""
    top = Parser(prog="python -m bench", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=f"skipbench {__version__}")
    subparsers = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    groups: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("options.yaml").read_text())
    added: dict[str, Parser] = {}
    for name in dict.fromkeys(" ".join(groups).split()):
        does = getattr(verbs, name.replace("-", "_"))
        about = " ".join((does.__doc__ or "").split())
        added[name] = subparsers.add_parser(name, help=about[:1].lower() + about[1:-1], description=about)
        added[name].set_defaults(does=does)
    for names, options in groups.items():
        for usage, settings in options.items():
            for name in names.split():
                _add(added[name], usage, **({"help": settings} if isinstance(settings, str) else settings))
    return top


def _add(verb: Parser, usage: str, help: str, **settings: Any) -> None:
    """Add an option as it is written, `--quiet`, `--only FILTER` or `--device {cpu,cuda}`, or an argument."""
    name, _, value = usage.partition(" ")
    if value.startswith("{"):
        settings["choices"] = value.strip("{}").split(",")
    elif value:
        settings |= {"metavar": value.removeprefix("OUT"), "type": TYPES.get(value, str)}
    else:
        settings["action"] = "store_true"
    verb.add_argument(name, help=help + " (default: %(default)s)" * ("default" in settings), **settings)


def _need_nobody() -> None:
    """Give libraries that ask for the user's name or home one where there is none, as in a container."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"user-{os.getuid()}"
    if not os.path.isdir(os.path.expanduser("~")):
        os.environ["HOME"] = spare = f"{tempfile.gettempdir()}/skipbench-{os.getuid()}"
        os.makedirs(spare, mode=0o700, exist_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code. Bad input is one line on stderr and 2."""
    o = argparse.Namespace()
    _need_nobody()
    try:
        parser().parse_args(arguments, o)
        return o.does(o) or 0
    except SystemExit as stop:  # argparse: --help is 0, a wrong argument 2
        return int(stop.code or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe, `head` say, has seen enough
        sys.stderr.close()
        return 0
    except (ValueError, OSError) as error:
        if not is_bad_input(error, [value for value in vars(o).values() if isinstance(value, Path)]):
            raise
        said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        print(f"error: {said}", file=sys.stderr)
        return 2
