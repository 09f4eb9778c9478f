"""The command line: `python -m bench VERB`. Exit codes: 0 it worked, 1 something failed, 2 bad input (one line)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from bench.cli import verbs
from bench.errors import is_bad_input

DESCRIPTION = """\
skipbench: does scaling the long skip connections of a diffusion model make it train faster?

  python -m bench plan quick      what the suite would train, and what it costs
  python -m bench run quick       train what is missing; the same command resumes
  python -m bench status quick    how far it is
  python -m bench report quick    tables, figures and verdicts, in one page
"""
DEFAULT = " (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """An argparse whose errors are one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {' '.join(message.split())} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def parser() -> Parser:
    """The whole command line."""
    top = Parser(prog="python -m bench", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    subparsers = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    verb = partial(_verb, subparsers)
    option: Callable[..., object]

    option = verb("plan", "the matrix: every run, its folder, parameters, FLOPs, images, time; starts nothing")
    _only(option)

    option = verb("run", "train what is missing on this machine, in parallel; the same command resumes", dry=True)
    _only(option)
    option("--workers", type=_positive, metavar="N", help="runs trained at a time (default: as many as fit)")
    every = "keep MLflow in step while training; 0 to leave it" + DEFAULT
    option("--sync-every", type=_seconds, default=5.0, metavar="SECONDS", help=every)

    option = verb("submit", "the same as run, as jobs, through submitit", dry=True)
    _only(option)
    option("--cluster", choices=("local", "slurm"), required=True, help="local: processes on this machine")
    option("--jobs", type=_positive, metavar="N", help="local: jobs to start; each takes runs until none is left")
    profile = "slurm: a site's defaults for what follows, see bench/clusters" + DEFAULT
    option("--profile", default="slurm", metavar="NAME|FILE", help=profile)
    option("--partition", metavar="P", help="partition of the jobs")
    option("--account", metavar="A", help="account that they are charged to")
    option("--qos", metavar="Q", help="quality of service")
    option("--gpus-per-node", type=_positive, metavar="G", help="GPUs of a job")
    option("--time", type=_positive, metavar="MINUTES", help="time limit of a job; a run that needs longer is requeued")
    option("--array-parallelism", type=_positive, metavar="K", help="jobs of an array at a time")
    option("--runs-per-job", type=_positive, metavar="R", help="runs that one job trains, one after the other")
    option("--set", action="append", metavar="KEY=VALUE", help="any other parameter of submitit, again for more")
    option("--retry", choices=("failed",), help="submit what failed, too")
    option("--tracking", metavar="URI", help="jobs also project into this MLflow server (http)")

    verb("cancel", "end the jobs that submit started for the suite, and only those", dry=True)

    option = verb("status", "a table of runs: state, images, last distance, time left, what the scheduler says")
    option("--watch", type=_seconds, metavar="SECONDS", help="again and again, until all runs are done or Ctrl-C")

    option = verb("sync", "project run folders into MLflow; idempotent", dry=True)
    option("--tracking", metavar="URI", help="MLflow tracking address (default: sqlite in ROOT/mlflow.db)")
    option("--watch", type=_seconds, metavar="SECONDS", help="again and again, until SIGTERM or Ctrl-C")
    option("--quiet", action="store_true", help="say nothing but errors")

    option = verb("report", "tables, figures, report.json and one self-contained index.html", dry=True)
    option("other", metavar="OTHER", nargs="?", help="another sweep, to compare with: a suite under ROOT or its folder")
    option("--baseline", metavar="METHOD", help="compare with this arm (default: the suite's)")
    option("--out", type=Path, metavar="DIR", help="where to (default: ROOT/SUITE/report)")

    option = verb("check", "the checks of the protocol over the records; every failure by run and field", suite=False)
    option("suite", metavar="SUITE|RUN", help="a suite that has run, or the folder of one run")

    option = verb("data", "datasets: list, prepare or verify them", suite=False, dry=True)
    option("action", choices=("list", "prepare", "verify"))
    option("name", nargs="?", help="the dataset (list and verify: all if left out)")
    option("--source", type=Path, metavar="PATH", help="its original files, as their publisher ships them")
    option("--download", action="store_true", help="fetch the originals first, into SOURCE or DATA/originals/NAME")
    option("--partial", action="store_true", help="accept another number of images than the published one")
    option("--workers", type=_positive, metavar="N", help="processes that decode (default: one per core)")
    option("--autoencoder", metavar="NAME", help="coco256: folder or hub name of the autoencoder")
    option("--text-encoder", metavar="NAME", help="coco256: folder or hub name of the CLIP text model")
    option("--device", choices=("cpu", "cuda"), default="cpu", help="coco256: where these run" + DEFAULT)

    option = verb("perf", "training throughput of each way of computing, as ratios in one process", suite=False)
    option("--preset", action="append", help="the backbone, again for more (default: those of the suite quick)")
    option("--batch", type=_positive, default=8, metavar="B", help="images per step" + DEFAULT)
    option("--steps", type=_positive, default=10, metavar="N", help="steps per measurement" + DEFAULT)
    option("--threads", type=_positive, default=1, metavar="N", help="threads" + DEFAULT)
    option("--device", choices=("cpu", "cuda"), default="cpu", help="where" + DEFAULT)
    option("--choice", action="append", metavar="NAME", help="'bf16 compiled', say, again for more (default: all)")
    option("--suite", metavar="SUITE", help="instead: where the time of a suite that has run went")

    option = verb("import-weights", "a published checkpoint into ours, as safetensors", suite=False, dry=True)
    option("file", type=Path, metavar="FILE", help="the published state dict (.pt, .pth, .safetensors)")
    option("--preset", required=True, help="the backbone it belongs to")
    option("--method", default="none", help="the scaling method it was trained with" + DEFAULT)
    option("--out", type=Path, metavar="FILE", help="where to (default: beside FILE, .safetensors)")

    option = verb("ui", "open MLflow on the synced experiments, on this machine only (127.0.0.1)", suite=False)
    option("--port", type=_positive, default=5000, metavar="P", help="port" + DEFAULT)
    option("--tracking", metavar="URI", help="MLflow store (default: sqlite in ROOT/mlflow.db)")
    return top


def _verb(subparsers: Any, name: str, about: str, suite: bool = True, dry: bool = False) -> Callable[..., object]:
    """Add a verb, done by the function of its name; returns what adds an option to it."""
    added: Parser = subparsers.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
    if suite:
        added.add_argument("suite", metavar="SUITE", help="a name in bench/suites, or the path of a suite file")
    added.add_argument("--root", type=Path, default=Path("runs"), help="where run folders lie" + DEFAULT)
    added.add_argument("--data", type=Path, default=Path("data"), help="where datasets lie" + DEFAULT)
    if dry:
        added.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    added.set_defaults(does=name.replace("-", "_"))
    return added.add_argument


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code. Bad input is one line on stderr and 2."""
    try:
        options = parser().parse_args(arguments)
        does: Callable[[argparse.Namespace], int] = getattr(verbs, options.does)
        return does(options)
    except SystemExit as stop:  # argparse: --help is 0, a wrong argument 2
        return int(stop.code or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe, `head` say, has seen enough
        sys.stderr.close()
        return 0
    except ValueError as error:
        if not is_bad_input(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2


def _only(option: Callable[..., object]) -> None:
    option("--only", metavar="FILTER", help="some of the runs: method=none,seed=0 (a key given twice means either)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value
