"""What each verb of the command line does. Nothing heavy is imported before it is needed: report, check, status and
sync start without torch."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.errors import BadInput
from bench.launching import process


def plan(o: argparse.Namespace) -> int:
    """Print the matrix."""
    from bench.cli import matrix
    from bench.planning import suite_file
    from bench.planning.plan import plan as plan_runs
    from bench.planning.plan import select

    suite = suite_file.load(o.suite)
    matrix.show(suite, select(plan_runs(suite), o.only), o.root)
    return 0


def run(o: argparse.Namespace) -> int:
    """Train what is missing."""
    if not o.dry_run:
        process.warm_up()
    from bench.launching import local
    from bench.planning import suite_file
    from bench.planning.plan import plan as plan_runs
    from bench.planning.plan import select, with_pilots

    suite = suite_file.load(o.suite)
    if not o.dry_run:
        return local.run(suite, o.root, o.data, o.only, o.workers, o.sync_every)
    everything = plan_runs(suite)
    for run in with_pilots(everything, select(everything, o.only)):
        print(f"{run.folder(o.root).state():8}  {run.id}")
    return 0


def submit(o: argparse.Namespace) -> int:
    """Start jobs that train what is missing."""
    from bench.launching import submit as jobs
    from bench.planning import suite_file

    return jobs.submit(suite_file.load(o.suite), o)


def cancel(o: argparse.Namespace) -> int:
    """End the jobs of a suite."""
    from bench.launching import submit as jobs

    return jobs.cancel(_name(o), o.root, o.dry_run)


def status(o: argparse.Namespace) -> int:
    """Print the table of runs."""
    from bench.cli import status as table

    table.show(o.root, _name(o), o.watch)
    return 0


def sync(o: argparse.Namespace) -> int:
    """Project into MLflow once, or until told to stop: SIGTERM asks for one more pass."""
    from bench.tracking import sync

    name = _name(o)
    if o.dry_run:
        print(f"would project {o.root / name} into {o.tracking or sync.default_uri(o.root)}")
        return 0
    stop: list[int] = []
    if o.watch is not None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda got, _: stop.append(got))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # who starts a watcher holds it back until here
    while True:
        last = bool(stop) or o.watch is None
        code = 0
        try:
            summary = sync.sync(o.root, name, o.tracking, stop)
            if not o.quiet:
                print(summary, flush=True)
        except sync.Unreachable as error:  # a server that restarts: a later pass sends what this one did not
            if o.watch is None:
                raise
            print(f"sync: {error}", file=sys.stderr, flush=True)
            code = 1
        if last:
            return code
        until = time.monotonic() + o.watch
        while time.monotonic() < until and not stop:
            time.sleep(0.1)


def report(o: argparse.Namespace) -> int:
    """Write the report of a suite, or the comparison of two sweeps."""
    import reports

    name = _name(o)
    if o.other:
        if o.baseline:
            raise BadInput(f"--baseline: {o.baseline!r} is not for two sweeps; each is compared with its own baseline")
        root, other = _elsewhere(o)
        out = o.out or o.root / name / f"against-{other}"
        write: Callable[[], Path] = lambda: reports.compare_sweeps(o.root, name, root, other, out)  # noqa: E731
    else:
        out = o.out or o.root / name / "report"
        write = lambda: reports.write(o.root, name, out, o.baseline)  # noqa: E731
    if o.dry_run:
        print(f"would write {out / 'index.html'}")
        return 0
    print(f"report: {write()}")
    return 0


def _elsewhere(o: argparse.Namespace) -> tuple[Path, str]:
    """(root, suite) of the other sweep: its folder, or a name under the same root."""
    folder = Path(o.other)
    if (folder / "suite.json").is_file():
        return folder.resolve().parent, folder.resolve().name
    if not (o.root / o.other / "suite.json").is_file():
        raise BadInput(f"other: {o.other!r} is neither the folder of a sweep nor a suite with runs in {o.root}")
    return o.root, o.other


def check(o: argparse.Namespace) -> int:
    """Print every failed check, what is missing, and whether the speedups agree with the committed reference."""
    import reports

    folder = Path(o.suite)
    if (folder / "config.json").is_file():  # one run
        root, name, only = folder.resolve().parent.parent, folder.resolve().parent.name, folder.resolve().name
    else:
        root, name, only = o.root, _name(o), None
    failures = [str(failure) for failure in reports.check(root, name)]
    failures = [failure for failure in failures if only is None or only in failure]
    progress = [
        line
        for line in reports.progress(root, name)
        if only is None and not any(line in failure for failure in failures)
    ]
    outside, compared = reports.agreement(root, name) if only is None else ([], "")
    said = [reports.missing(root, name), *outside, compared] if only is None else []
    print(
        *progress,
        *failures,
        *filter(None, said),
        f"{len(failures)} checks failed" if failures else "all checks passed",
        sep="\n",
    )
    return int(bool(failures or outside))


def data(o: argparse.Namespace) -> int:
    """List, prepare or verify datasets."""
    from bench.cli import data as stores

    if o.action == "prepare" and o.name is None:
        raise BadInput("data prepare: the name of a dataset is missing; see: python -m bench data list")
    return stores.act(o)


def perf(o: argparse.Namespace) -> int:
    """Measure throughput, or show where a suite's time went."""
    if o.suite:
        from bench.performance import time_split

        time_split.show(o.root, _name(o))
        return 0
    from bench.performance import perf as measure

    measure.show(o.preset, o.batch, o.steps, o.device, o.threads, o.choice)
    return 0


def import_weights(o: argparse.Namespace) -> int:
    """Convert a published checkpoint."""
    from models import weights

    out = o.out or o.file.with_suffix(".safetensors")
    if o.dry_run:
        print(f"would read {o.file} as {o.preset} and write {out}")
        return 0
    print(weights.import_weights(o.file, o.preset, o.method, out))
    return 0


def ui(o: argparse.Namespace) -> int:
    """Open MLflow on loopback."""
    from bench.tracking import sync

    return sync.ui(o.root, o.port, o.tracking)


def _name(o: argparse.Namespace) -> str:
    """The name under which a suite's runs lie: its own, or its file's. Does not read the suite file."""
    name = Path(o.suite).stem if o.suite.endswith((".yaml", ".yml")) else Path(o.suite).name
    if not (o.root / name / "suite.json").is_file():
        raise BadInput(f"suite: {o.suite!r} has no runs in {o.root}; start it with: python -m bench run {o.suite}")
    return name
