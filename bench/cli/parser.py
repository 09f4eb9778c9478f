"""The command line: `python -m bench VERB`. Exit codes: 0 it worked, 1 it ran and something failed, 2 bad input (one line)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.cli import verbs
from bench.errors import is_bad_input

DESCRIPTION = """\
skipbench: does scaling the long skip connections of a diffusion model make it train faster?

  python -m bench plan quick      what the suite would train, and what it costs
  python -m bench run quick       train what is missing; the same command resumes
  python -m bench status quick    how far it is
  python -m bench report quick    tables, figures and verdicts, in one page
"""


class Parser(argparse.ArgumentParser):
    """An argparse whose errors are one line and exit code 2."""

    def error(self, message: str) -> None:
        print(f"error: {' '.join(message.split())} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def parser() -> Parser:
    """The whole command line."""
    top = Parser(prog="python -m bench", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    adder = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)

    def verb(name: str, does: Callable[[argparse.Namespace], int], about: str, suite: bool = True, dry: bool = False) -> Parser:
        added = adder.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        if suite:
            added.add_argument("suite", metavar="SUITE", help="a name in bench/suites, or the path of a suite file")
        added.add_argument("--root", type=Path, default=Path("runs"), help="where run folders lie (default: %(default)s)")
        added.add_argument("--data", type=Path, default=Path("data"), help="where datasets lie (default: %(default)s)")
        if dry:
            added.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
        added.set_defaults(does=does)
        return added

    plan = verb("plan", verbs.plan, "the matrix: every run, its folder, parameters, FLOPs, images, time; starts nothing")
    _only(plan)
    run = verb("run", verbs.run, "train what is missing on this machine, in parallel; the same command resumes", dry=True)
    _only(run)
    run.add_argument("--workers", type=_positive, metavar="N", help="runs trained at a time (default: as many as fit)")
    run.add_argument("--sync-every", type=_seconds, default=5.0, metavar="SECONDS",
                     help="keep MLflow in step while training; 0 to leave it (default: %(default)s)")
    submit = verb("submit", verbs.submit, "the same as run, as jobs, through submitit", dry=True)
    _only(submit)
    submit.add_argument("--cluster", choices=("local", "slurm"), required=True, help="local: processes on this machine")
    submit.add_argument("--jobs", type=_positive, metavar="N", help="local: workers to start; each takes runs until none is left")
    submit.add_argument("--profile", default="slurm", metavar="NAME|FILE",
                        help="slurm: a site's defaults for what follows, see bench/clusters (default: %(default)s)")
    submit.add_argument("--partition", metavar="P", help="partition of the jobs")
    submit.add_argument("--account", metavar="A", help="account that they are charged to")
    submit.add_argument("--qos", metavar="Q", help="quality of service")
    submit.add_argument("--gpus-per-node", type=_positive, metavar="G", help="GPUs of a job")
    submit.add_argument("--time", type=_positive, metavar="MINUTES", help="time limit of a job; a run that needs longer is requeued")
    submit.add_argument("--array-parallelism", type=_positive, metavar="K", help="jobs of an array at a time")
    submit.add_argument("--runs-per-job", type=_positive, metavar="R", help="runs that one job trains, one after the other")
    submit.add_argument("--set", action="append", metavar="KEY=VALUE", help="any other parameter of submitit, again for more")
    submit.add_argument("--retry", choices=("failed",), help="submit what failed, too")
    submit.add_argument("--tracking", metavar="URI", help="jobs also project into this MLflow server (http)")
    verb("cancel", verbs.cancel, "end the jobs that submit started for the suite, and only those", dry=True)
    status = verb("status", verbs.status, "a table of runs: state, images, last distance, time left, what the scheduler says")
    status.add_argument("--watch", type=_seconds, metavar="SECONDS", help="again and again, until all runs are done or Ctrl-C")
    sync = verb("sync", verbs.sync, "project run folders into MLflow; idempotent", dry=True)
    sync.add_argument("--tracking", metavar="URI", help="MLflow tracking address (default: sqlite in ROOT/mlflow.db)")
    sync.add_argument("--watch", type=_seconds, metavar="SECONDS", help="again and again, until SIGTERM or Ctrl-C")
    sync.add_argument("--quiet", action="store_true", help="say nothing but errors")
    report = verb("report", verbs.report, "tables, figures, report.json and one self-contained index.html", dry=True)
    report.add_argument("other", metavar="OTHER", nargs="?", help="another sweep, to compare with: a suite under ROOT or its folder elsewhere")
    report.add_argument("--baseline", metavar="METHOD", help="compare with this arm (default: none)")
    report.add_argument("--out", type=Path, metavar="DIR", help="where to (default: ROOT/SUITE/report)")
    check = verb("check", verbs.check, "the gates of the protocol over the records; every failure by run and field", suite=False)
    check.add_argument("suite", metavar="SUITE|RUN", help="a suite that has run, or the folder of one run")
    data = verb("data", verbs.data, "datasets: list, prepare or verify them", suite=False, dry=True)
    data.add_argument("action", choices=("list", "prepare", "verify", "profile"))
    data.add_argument("name", nargs="?", help="the dataset (list and verify: all if left out; profile: how fast JPEGs become imagenet64)")
    data.add_argument("--source", type=Path, metavar="PATH", help="its original files, as their publisher ships them")
    data.add_argument("--download", action="store_true", help="fetch the originals into SOURCE first (default: DATA/originals/NAME)")
    data.add_argument("--partial", action="store_true", help="accept another number of images than the published one")
    data.add_argument("--workers", type=_positive, metavar="N", help="processes that decode (default: one per core)")
    data.add_argument("--autoencoder", metavar="NAME", help="coco256: folder or hub name of the autoencoder")
    data.add_argument("--text-encoder", metavar="NAME", help="coco256: folder or hub name of the CLIP text model")
    data.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="coco256: where these run (default: %(default)s)")
    perf = verb("perf", verbs.perf, "training throughput of each way of computing, as ratios in one process", suite=False)
    perf.add_argument("--preset", action="append", help="the backbone, again for more (default: those of the suite quick)")
    perf.add_argument("--batch", type=_positive, default=8, metavar="B", help="images per step (default: %(default)s)")
    perf.add_argument("--steps", type=_positive, default=10, metavar="N", help="steps per measurement (default: %(default)s)")
    perf.add_argument("--threads", type=_positive, default=1, metavar="N", help="threads (default: %(default)s)")
    perf.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where (default: %(default)s)")
    perf.add_argument("--choice", action="append", metavar="NAME", help="'bf16 compiled', say, again for more (default: all)")
    perf.add_argument("--suite", metavar="SUITE", help="instead: where the time of a suite that has run went")
    perf.add_argument("--probes", metavar="SUITE", help="instead: what probes cost in each cell of a suite")
    perf.add_argument("--fid", type=_positive, nargs="?", const=2048, metavar="D",
                      help="instead: the Frechet term of D dimensions (%(const)s), ours beside torch-fidelity's and scipy's")
    weights = verb("import-weights", verbs.import_weights, "a published checkpoint into ours, as safetensors", suite=False, dry=True)
    weights.add_argument("file", type=Path, metavar="FILE", help="the published state dict (.pt, .pth, .safetensors)")
    weights.add_argument("--preset", required=True, help="the backbone it belongs to")
    weights.add_argument("--method", default="none", help="the scaling method it was trained with (default: %(default)s)")
    weights.add_argument("--out", type=Path, metavar="FILE", help="where to (default: beside FILE, .safetensors)")
    ui = verb("ui", verbs.ui, "open MLflow on the synced experiments, on this machine only (127.0.0.1)", suite=False)
    ui.add_argument("--port", type=_positive, default=5000, metavar="P", help="port (default: %(default)s)")
    ui.add_argument("--tracking", metavar="URI", help="MLflow store (default: sqlite in ROOT/mlflow.db)")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code. Bad input is one line on stderr and 2."""
    try:
        options = parser().parse_args(arguments)
        return options.does(options)
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


def _only(to: Parser) -> None:
    to.add_argument("--only", metavar="FILTER", help="some of the runs: method=none,seed=0 (a key given twice means either)")


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value
