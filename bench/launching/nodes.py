"""The nodes of one job, a task on each: the first chooses the runs, and every one starts its ranks of them.

The first task keeps a store of torch's; where it is lies in a file beside the job's. All that the others do is written
there: `run K`, which run they start next, and `end K`, that it is over. They answer `left K NODE`, how their ranks
ended. A task that cannot reach the store any more ends, and SLURM then ends the job: see `srun_args` of its profile.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from multiprocessing import connection
from pathlib import Path

from submitit import JobEnvironment
from torch.distributed import DistNetworkError, TCPStore  # type: ignore[attr-defined]  # torch says so at run time alone

from bench.launching import process
from bench.launching.coordinator import PATIENCE, POLL, ActiveRun, Elsewhere
from bench.launching.process import Exit, Meeting
from bench.runs.run_spec import Run
from reports.records.files import read_json, write_json


class Nodes:
    """As the task on one of them sees them. node: its number, 0 for the first. count: of all."""

    def __init__(self, job: JobEnvironment) -> None:
        self.node, self.count, self.number = job.global_rank, job.num_nodes, 0
        file, restarts = job.paths.folder / f"{job.job_id}_store.json", os.environ.get("SLURM_RESTART_COUNT", "0")
        if not self.node:
            self.host = socket.gethostname()
            self.store = TCPStore(self.host, 0, is_master=True)
            write_json(file, {"restarts": restarts, "host": self.host, "port": self.store.port})
            return
        while not file.is_file() or (found := read_json(file))["restarts"] != restarts:  # of before the last requeue
            time.sleep(POLL)
        self.host = found["host"]
        self.store = TCPStore(self.host, found["port"])

    def said(self, *key: object) -> bytes | None:
        """What stands in the store under a key, None if nothing does."""
        name = " ".join(map(str, key))
        return self.store.get(name) if self.store.check([name]) else None

    def begin(self, run: Run | None) -> Others:
        """Tell the other nodes to start their ranks of a run, or, without one, to leave; returns these ranks."""
        self.number += 1
        with socket.create_server(("", 0)) as probe:
            port = probe.getsockname()[1]
        self.store.set(f"run {self.number}", json.dumps([run.id if run else None, port]))
        return Others(Meeting(self.host, port, 0, self.count), self, self.number)

    def close(self) -> None:
        """Let the other nodes leave."""
        self.begin(None).wait()

    def follow(self, runs: dict[str, Run], root: Path, data: Path) -> int:
        """What a node other than the first does: start the ranks that it is told to, until it may leave; returns 0."""
        try:
            while self._follow_once(runs, root, data):
                pass
        except DistNetworkError:
            sys.exit("the first node of this job cannot be reached any more")  # code 1, by which SLURM ends the others
        return 0

    def _follow_once(self, runs: dict[str, Run], root: Path, data: Path) -> bool:
        self.number += 1
        while not (told := self.said("run", self.number)):
            time.sleep(POLL)
        name, port = json.loads(told)
        first, code = First(Meeting(self.host, port, self.node, self.count), self, self.number), None
        if name and not first.codes():
            active = ActiveRun(runs[name], 0, process.start(runs[name], root, data, None, first.meeting), first)
            while (code := active.exit_code()) is None:
                connection.wait([one.sentinel for one in active.processes], timeout=POLL)
        self.store.set(f"left {self.number} {self.node}", str(int(Exit.LEFT if code is None else code)))
        return name is not None


class First(Elsewhere):
    """The first node as any other sees it, of the NUMBERth run: all that it asks is whether that is over."""

    def __init__(self, meeting: Meeting, nodes: Nodes, number: int) -> None:
        self.meeting, self.nodes, self.number = meeting, nodes, number

    def codes(self) -> list[int | None]:
        return [] if self.nodes.said("end", self.number) is None else [Exit.LEFT]


class Others(First):
    """All others as the first node sees them: how their ranks ended."""

    def codes(self) -> list[int | None]:
        found = [self.nodes.said("left", self.number, node) for node in range(1, self.nodes.count)]
        return [None if code is None else int(code) for code in found]

    def end(self) -> None:
        self.nodes.store.set(f"end {self.number}", "")

    def wait(self) -> None:
        until = time.monotonic() + PATIENCE + 30
        while None in self.codes() and time.monotonic() < until:
            time.sleep(POLL)
