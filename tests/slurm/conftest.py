"""One cluster for all tests of a process of pytest, of which `make test-slurm` starts two."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cluster import Cluster, missing, wait
from sweep import BUDGET, CHECKPOINTS, LONG, LongRun, Sweep
from tiny_suite import TINY

from bench.planning import suite_file
from bench.planning.plan import plan
from bench.training.trainer import train_run
from tests.tools.chaos import outcome


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Four idle nodes."""
    if absent := missing():
        pytest.skip(f"not installed: {', '.join(absent)}; make test-slurm installs them")
    base = Path(tempfile.mkdtemp(prefix="slurm"))
    found = Cluster(base)
    try:
        found.up()
        yield found
    finally:
        found.down()
        shutil.rmtree(base)


@pytest.fixture
def sweep(cluster: Cluster, tmp_path: Path, data: Path) -> Iterator[Sweep]:
    """An empty one; the queue is empty again afterwards, and the nodes are up."""
    found = Sweep(cluster, tmp_path, data)
    yield found
    cluster.ask("scancel", "--me", "--user", os.environ.get("USER", "root"))
    wait("an empty queue", lambda: not (cluster.ask("squeue", "-h") or "").strip(), 60)
    cluster.wait_idle()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[str, list[dict]]:
    """The outcome of the one long run, trained here without a cluster."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "long.yaml").write_text(yaml.safe_dump({**TINY, **LONG, "checkpoints": CHECKPOINTS}))
    run = plan(suite_file.load(str(folder / "long.yaml")))[0]
    train_run(run, folder / "runs", data)
    return outcome(run, folder / "runs")


@pytest.fixture
def long(sweep: Sweep, undisturbed: tuple[str, list[dict]]) -> LongRun:
    """The long run, not yet submitted."""
    return LongRun(sweep, undisturbed, checkpoints=CHECKPOINTS)


@pytest.fixture
def long_interval(sweep: Sweep, undisturbed: tuple[str, list[dict]]) -> LongRun:
    """The same with one checkpoint, at its end."""
    digest, events = undisturbed
    kept = [event for event in events if event["event"] != "checkpoint" or event["images"] == BUDGET]
    return LongRun(sweep, (digest, kept), checkpoints=1)
