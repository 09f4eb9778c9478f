"""The verbs of the command line: each returns its exit code, None for 0, and its docstring is its help.

Nothing heavy is imported before it is needed: report, check, status and sync start without torch.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BadInput
from bench.launching import process

if TYPE_CHECKING:
    from reports.records.run_folder import RunFolder


def plan(o: argparse.Namespace) -> None:
    """A table of the cells, or of every run: networks, images, time, disk; starts nothing."""
    from bench.cli import matrix
    from bench.launching import local
    from bench.launching.sweep_folder import SweepFolder
    from bench.planning import plan, suite_file

    suite = local.widened(suite_file.load(o.suite, o.root), o.root, o.arm)
    everything = plan.plan(suite)
    SweepFolder(o.root, suite.name).check(suite, everything)
    matrix.show(suite, plan.select(everything, o.only), o.root, o.runs, o.chip)


def run(o: argparse.Namespace) -> int:
    """Train what is missing on this machine, in parallel; the same command resumes."""
    if not o.dry_run:
        process.warm_up()
    from bench.launching import local, looks
    from bench.launching.sweep_folder import SweepFolder
    from bench.planning import plan, suite_file

    suite = suite_file.load(o.suite, o.root)
    if not o.dry_run:
        return local.run(suite, o.root, o.data, o.only, o.workers, o.sync_every, o.arm)
    suite = local.widened(suite, o.root, o.arm)
    everything = plan.plan(suite)
    SweepFolder(o.root, suite.name).check(suite, everything)
    left = looks.Looks(everything, o.root)
    left.refresh()
    for run in plan.with_pilots(everything, plan.select(everything, o.only)):
        print(f"{left.state(run):8}  {run.id}")
    return 0


def submit(o: argparse.Namespace) -> int:
    """The same as run, as jobs, through submitit."""
    from bench.launching import submit as jobs
    from bench.planning import suite_file

    return jobs.submit(suite_file.load(o.suite, o.root), o)


def cancel(o: argparse.Namespace) -> int:
    """End the jobs that submit started for the suite, and only those."""
    from bench.launching import submit as jobs

    return jobs.cancel(_name(o), o.root, o.dry_run)


def status(o: argparse.Namespace) -> None:
    """A table of runs: state, images, last distance, time left, what the scheduler says."""
    from bench.cli import status as table

    table.show(o.root, _name(o), o.watch)


def sync(o: argparse.Namespace) -> int:
    """Project run folders into MLflow; idempotent."""
    from bench.tracking import sync

    name = _name(o)
    if o.dry_run:
        print(f"would project {o.root / name} into {o.tracking or sync.default_uri(o.root)}")
        return 0
    said, stop = "", list[int]()  # SIGTERM and Ctrl-C ask a watcher for one more pass
    if o.watch is not None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda got, _: stop.append(got))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # who starts a watcher holds it back until here
    while True:
        code, last = 0, bool(stop) or o.watch is None
        try:
            summary = sync.sync(o.root, name, o.tracking, stop)
            said = ""
            if not o.quiet:
                print(summary, flush=True)
        except BadInput as error:
            if o.watch is None:
                raise
            if str(error) != said:
                print(f"sync: {error}", file=sys.stderr, flush=True)
            if not isinstance(error, sync.Unreachable):
                return 2
            said, code = str(error), 1  # a server that restarts: a later pass sends what this one did not
        if last:
            return code
        until = time.monotonic() + o.watch
        while time.monotonic() < until and not stop:
            time.sleep(0.1)


def report(o: argparse.Namespace) -> int:
    """Tables, figures, report.json and one self-contained index.html."""
    import reports
    from reports.report.output import NO_REPORT, folder, listings

    name, other = _name(o), _other(o) if o.other else None
    if other:
        where = {o.root / name / f"against-{other[1]}": ""}
    else:
        found = listings(o.root, name, o.baseline)
        where = {o.root / name / folder(o.baseline, listing): listing for listing in found}
    where = {o.out: next(iter(where.values()))} if o.out else where
    for out in where:
        if not o.out and not os.access(out if out.is_dir() else out.parent, os.W_OK):
            raise BadInput(f"--out: {out} cannot be written to; give another folder")
    if o.dry_run:
        print(*(f"would write {out / 'index.html'}" for out in where), sep="\n")
        return 0
    print(*(f"{run}: {what}\n" for run, what in reports.failed(o.root, name).items()), sep="", end="", file=sys.stderr)
    pages = [
        reports.compare_sweeps(o.root, name, *other, out)
        if other
        else reports.write(o.root, name, out, o.baseline, listing)
        for out, listing in where.items()
    ]
    print(*(f"report: {page or NO_REPORT}" for page in pages), sep="\n")
    return int(None in pages)


def _other(o: argparse.Namespace) -> tuple[Path, str]:
    """(root, suite) of the other sweep: its folder, or a name under the same root."""
    if o.baseline:
        raise BadInput(f"--baseline: {o.baseline!r} is not for two sweeps; each is compared with its own baseline")
    for folder in (Path(o.other).resolve(), o.root / o.other):
        if (folder / "suite.json").is_file():
            return folder.parent, folder.name
    raise BadInput(f"other: {o.other!r} is neither the folder of a sweep nor a suite with runs in {o.root}")


def check(o: argparse.Namespace) -> int:
    """The checks of the protocol over the records; every failure by run and field."""
    import reports
    from reports.report.formats import plural

    folder = Path(o.suite).resolve()
    one = (folder / "config.json").is_file()  # a run, not a suite
    root, name = (folder.parent.parent, folder.parent.name) if one else (o.root, _name(o))
    failures = [failure for failure in reports.check(root, name) if not one or folder.name in failure]
    states = {run: state for run, state in reports.unfinished(root, name).items() if not one or run == folder.name}
    failed = {run: what for run, what in reports.failed(root, name).items() if run in states}
    shown = [*failures, *(f"{run}: {failed.get(run, state)}" for run, state in states.items())]
    outside, left = list[str](), ", ".join(states.values())
    if not one:
        progress = [line for line in reports.progress(root, name) if not any(line in failure for failure in failures)]
        outside, compared = reports.agreement(root, name)
        left = reports.missing(root, name)
        shown = [*progress, *shown, *outside, compared]
    said = f"the checks that could be made passed; {left}" if left else "all checks passed"
    if failed or failures or outside:
        said = f"{plural(len(failed), 'run')} and {plural(len(failures + outside), 'check')} failed"
        shown.append(left)
    print(*filter(None, shown), said, sep="\n")
    return int(bool(failures or outside or failed))


def data(o: argparse.Namespace) -> int:
    """Datasets: list, prepare or verify them."""
    from bench.cli import data

    return data.act(o)


def perf(o: argparse.Namespace) -> int:
    """Throughput of ways to compute a step, or of reading; where a suite's time went; if a recipe keeps its rule."""
    questions = {"--preset": o.preset, "--loader": o.loader, "--suite": o.suite, "--recipe": o.recipe}
    asked = [flag for flag, value in questions.items() if value]
    if len(asked) > 1:
        raise BadInput(f"{' and '.join(asked)} ask different things: give one of them")
    if (o.seeds or o.workers) and not o.recipe:
        raise BadInput(f"{'--seeds' if o.seeds else '--workers'} needs --recipe SUITE, whose runs it counts")
    if o.recipe:
        from bench.performance import recipe
        from bench.planning import suite_file

        return recipe.show(suite_file.load(o.recipe, o.root), o.root, o.data, o.workers, o.seeds or len(recipe.SEEDS))
    if o.suite:
        from bench.performance import time_split

        time_split.show(o.root, _name(o))
    elif o.loader:
        from bench.performance import loading

        loading.show(o.data, o.steps)
    else:
        from bench.performance import perf

        perf.show(o.preset, o.batch, o.steps, o.device, o.threads, o.choice)
    return 0


def import_weights(o: argparse.Namespace) -> None:
    """A published checkpoint into ours, as safetensors."""
    from models import weights

    out = o.out or o.file.absolute().with_suffix(".safetensors")
    told = f"would read {o.file} as {o.preset} and write {out}"
    print(told if o.dry_run else weights.import_weights(o.file, o.preset, o.method, out))


def sample(o: argparse.Namespace) -> None:
    """A grid of images from a run's EMA, drawn as its evaluations are; the same seed draws the same images."""
    from bench.training.trained import Trained

    folder = _run(o)
    out = o.out or Path(f"{folder.path.name}-seed{o.seed}.png")
    told = f"would draw {o.count} images from {folder.path} and write {out}"
    print(told if o.dry_run else Trained.load(folder, o.data).sample(out, o.count, o.seed, o.steps))


def export(o: argparse.Namespace) -> None:
    """A run's EMA as safetensors, with a model card that says what it is and how to load it."""
    from bench.training.trained import Trained

    folder = _run(o)
    out = o.out or folder.export
    told = f"would write model.safetensors and README.md of {folder.path} to {out}"
    print(told if o.dry_run else Trained.load(folder, o.data).export(out))


def ui(o: argparse.Namespace) -> int:
    """Open MLflow on the synced experiments, on this machine only (127.0.0.1)."""
    from bench.tracking import sync

    return sync.ui(o.root, o.port, o.tracking)


def _run(o: argparse.Namespace) -> RunFolder:
    """A run, given its folder or its name."""
    from reports.records.run_folder import RunFolder

    found = [path for path in (Path(o.run), *o.root.glob("*/*")) if (path / "config.json").is_file()]
    for folder in (path for path in found if path == Path(o.run) or path.name == o.run):
        return RunFolder(folder.resolve())
    raise BadInput(f"run: {o.run!r} is no run in {o.root}; python -m bench status SUITE lists those of a suite")


def _name(o: argparse.Namespace) -> str:
    """The name under which a suite's runs lie: its own, or its file's. Does not read the suite file."""
    name = Path(o.suite).stem if o.suite.endswith((".yaml", ".yml")) else Path(o.suite).name
    if not (o.root / name / "suite.json").is_file():
        raise BadInput(f"suite: {o.suite!r} has no runs in {o.root}; start it with: python -m bench run {o.suite}")
    return name
