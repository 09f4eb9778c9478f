"""A throwaway SLURM cluster: several nodes and accounting on this machine, on loopback, without systemd.

Every daemon is started here and ended by its own process id; all files lie under one folder.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "sbatch", "sacctmgr", "ss")
SEARCH = os.environ["PATH"] + ":/usr/sbin:/sbin"

CONF = """\
ClusterName=bench
SlurmctldHost={host}({address})
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits until its credential has expired: 120 s by default.
AuthInfo=socket={base}/munge/socket,cred_expire=5
CommunicationParameters={binding}
SlurmctldParameters=preempt_send_user_signal
# Ids of an earlier cluster do not come back.
FirstJobId={first}
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool/%n
SlurmctldPidFile={base}/run/slurmctld.pid
SlurmdPidFile={base}/run/slurmd.%n.pid
SlurmctldLogFile={base}/log/slurmctld.log
SlurmdLogFile={base}/log/slurmd.%n.log
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=2,sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
KillWait=5
SlurmctldTimeout=10
SlurmdTimeout=10
MaxArraySize=26
GresTypes=gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={address}
AccountingStoragePort={dbd}
AccountingStoragePass={base}/munge/socket
{nodes}
PartitionName=low Nodes=ALL Default=YES MaxTime=20 DefaultTime=5 PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=high Nodes=ALL MaxTime=20 DefaultTime=5 PriorityTier=10 PreemptMode=OFF
"""

DBD = """\
AuthType=auth/munge
AuthInfo=socket={base}/munge/socket
DbdHost={host}
DbdAddr={address}
DbdPort={dbd}
CommunicationParameters={binding}
SlurmUser={user}
PidFile={base}/run/slurmdbd.pid
LogFile={base}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
"""

DATABASE = """\
[mariadbd]
user={user}
datadir={base}/db/data
socket={base}/db/sock
pid-file={base}/run/mariadbd.pid
log-error={base}/log/mariadbd.log
skip-networking
skip-name-resolve
skip-log-bin
performance_schema=OFF
innodb_buffer_pool_size=64M
innodb_log_file_size=16M
innodb_lock_wait_timeout=900
innodb_flush_log_at_trx_commit=0
"""


def missing() -> list[str]:
    """Programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCH) is None]


def wait(what: str, ready: Callable[[], object], seconds: float = 60.0) -> None:
    """Until `ready()` is true; TimeoutError names what was waited for."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.1)


def living(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def stopped(pid: int) -> bool:
    """Whether a process is there and suspended."""
    return _field(pid, "State").startswith("T")


def parent(pid: int) -> int:
    """The process id of a process's parent."""
    return int(_field(pid, "PPid"))


def signalled(pid: int) -> bool:
    """Whether a signal waits for a process, as one does that comes while it is suspended."""
    return int(_field(pid, "ShdPnd") or "0", 16) > 0


def _field(pid: int, name: str) -> str:
    """Of /proc/PID/status; empty if there is no such process."""
    try:
        return next(
            line.split(":")[1].strip()
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith(f"{name}:")
        )
    except (FileNotFoundError, ProcessLookupError):
        return ""


def below(pid: int) -> list[int]:
    """The descendants of a process, from /proc."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    found, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


class Cluster:
    """`nodes` nodes of two CPUs. `environment` is what SLURM's clients need."""

    def __init__(self, base: Path, nodes: int = 4) -> None:
        self.base, self.nodes = base, [f"n{k + 1}" for k in range(nodes)]
        self.environment = os.environ | {"SLURM_CONF": str(base / "slurm.conf"), "PATH": SEARCH}
        self._log = base / "log" / "start.log"

    # Up and down ------------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """From nothing to idle nodes."""
        for folder in ("run", "log", "state", "spool", "munge", "db"):
            (self.base / folder).mkdir(parents=True)
        for folder in (self.base, self.base / "munge"):
            folder.chmod(0o755)  # munged refuses a folder that others may write to
        (self.base / "munge" / "private").mkdir(mode=0o700)
        self._write()
        self._munge()
        self._database()
        self._call("slurmdbd", MYSQL_UNIX_PORT=str(self.base / "db" / "sock"))
        wait("slurmdbd", lambda: self.ask("sacctmgr", "-n", "-i", "list", "cluster") is not None)
        self._call("sacctmgr", "-i", "-Q", "add", "cluster", "bench")
        self._call("slurmctld", "-i")
        for node in self.nodes:
            self.start(node)
        self.wait_idle()

    def down(self) -> None:
        """End the jobs, then every daemon, by its own process id."""
        for job in sorted({line.split("_")[0] for line in (self.ask("squeue", "-h", "-o", "%i") or "").split()}):
            self.ask("scancel", job)
        try:
            wait("an empty queue", lambda: not self.ask("squeue", "-h"), 20)
        except TimeoutError:
            pass
        self._end(step for node in self.nodes for step in self.steps(node))
        for name in (*(f"slurmd.{node}" for node in self.nodes), "slurmctld", "slurmdbd", "mariadbd", "munged"):
            if (pid := self.pid(name)) is not None:
                self._end([pid], gently=True)

    def _write(self) -> None:
        import pwd

        address, binding = self._address()
        ports = self._ports(2 + len(self.nodes))
        words = {
            "base": self.base,
            "host": socket.gethostname().partition(".")[0],
            "address": address,
            "binding": binding,
            "user": pwd.getpwuid(os.getuid()).pw_name,
            "port": ports[0],
            "dbd": ports[1],
            "first": int(time.time()) % 50_000_000 + 1000,
        }
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={words['host']} NodeAddr={address} Port={port} CPUs=2 RealMemory=4000 "
            "Gres=gpu:2 State=UNKNOWN"
            for node, port in zip(self.nodes, ports[2:], strict=True)
        )
        (self.base / "slurm.conf").write_text(CONF.format(**words, nodes=nodes))
        (self.base / "slurmdbd.conf").write_text(DBD.format(**words))
        (self.base / "slurmdbd.conf").chmod(0o600)
        (self.base / "db" / "my.cnf").write_text(DATABASE.format(**words))
        for index in range(2):  # pretend GPUs: each needs a device file, or it counts as none
            path = self.base / f"gpu{index}"
            if subprocess.run(["mknod", path, "c", "1", "3"], stderr=subprocess.DEVNULL).returncode:
                path.touch()
        (self.base / "gres.conf").write_text(
            f"NodeName={self.nodes[0][0]}[1-{len(self.nodes)}] Name=gpu File={self.base}/gpu[0-1]\n"
        )

    @staticmethod
    def _address() -> tuple[str, str]:
        """Where the daemons listen, and the words for it. SLURM binds to what the host's name resolves to.

        On a machine with no address but loopback SLURM's look-up (AI_ADDRCONFIG) finds no name at all: one more address
        on lo mends it, and is still lo.
        """

        def resolve(name: str) -> str | None:
            try:
                return socket.getaddrinfo(name, None, socket.AF_INET, flags=socket.AI_ADDRCONFIG)[0][4][0]
            except socket.gaierror:
                return None

        if resolve("localhost") is None:
            subprocess.run(["ip", "addr", "add", "198.18.0.1/32", "dev", "lo"], check=True)
        found = resolve(socket.gethostname())
        if found and found.startswith("127."):
            return found, "NoAddrCache,NoCtldInAddrAny,NoInAddrAny"
        return "127.0.0.1", "NoAddrCache"

    @staticmethod
    def _ports(count: int) -> list[int]:
        """Free ones."""
        held = [socket.socket() for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        found = [one.getsockname()[1] for one in held]
        for one in held:
            one.close()
        return found

    def _munge(self) -> None:
        folder = self.base / "munge"
        (folder / "private" / "key").write_bytes(os.urandom(1024))
        (folder / "private" / "key").chmod(0o600)
        self._call(
            "munged",
            f"--key-file={folder}/private/key",
            f"--socket={folder}/socket",
            f"--seed-file={folder}/private/seed",
            f"--log-file={folder}/private/log",
            f"--pid-file={self.base}/run/munged.pid",
            "--origin=127.0.0.1",
        )

    def _database(self) -> None:
        config, sock = f"--defaults-file={self.base}/db/my.cnf", f"{self.base}/db/sock"
        self._call("mariadb-install-db", config, "--auth-root-authentication-method=normal", "--skip-test-db")
        with self._log.open("ab") as log:
            subprocess.Popen(
                ["mariadbd", config],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        client = ("mariadb", "--no-defaults", "-S", sock, "-u", "root", "-e")
        wait("mariadbd", lambda: self.ask(*client, "select 1") is not None)
        self._call(
            *client,
            "create user slurm@localhost identified by 'slurm'; grant all on slurm_acct_db.* to slurm@localhost",
        )

    # Faults -----------------------------------------------------------------------------------------------------------

    def start(self, node: str) -> None:
        """A node comes (back)."""
        folder = self.base / "spool" / node
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if path.is_socket():
                path.unlink()  # of a step that is no more
        self._call("slurmd", "-N", node)

    def kill(self, node: str, processes: bool = True) -> None:
        """A node dies as by power loss; without `processes` its slurmd alone."""
        doomed = [pid for step in self.steps(node) for pid in (step, *below(step))] if processes else []
        os.kill(self.pid(f"slurmd.{node}"), 9)
        self._end(doomed)

    def steps(self, node: str) -> list[int]:
        """The slurmstepd processes of a node: each holds a socket in the node's spool folder."""
        said = self.ask("ss", "-xlpH") or ""
        lines = [line for line in said.splitlines() if f" {self.base}/spool/{node}/" in line]
        return sorted(
            {
                int(word.partition("pid=")[2].partition(",")[0])
                for line in lines
                for word in line.split()
                if "pid=" in word
            }
        )

    def wait_idle(self) -> None:
        """Until every node is up and has nothing to do."""
        wait(
            "idle nodes",
            lambda: (
                (self.ask("sinfo", "-h", "-p", "low", "-t", "idle", "-o", "%D") or "").strip() == str(len(self.nodes))
            ),
        )

    # Calling ----------------------------------------------------------------------------------------------------------

    def ask(self, *command: str) -> str | None:
        """What a command prints; None if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else None

    def pid(self, name: str) -> int | None:
        """Of a daemon that lives."""
        path = self.base / "run" / f"{name}.pid"
        pid = int(path.read_text()) if path.is_file() else 0
        return pid if pid and living(pid) else None

    def _call(self, *command: str, **environment: str) -> None:
        """To files, not pipes: a daemon keeps what it is given."""
        with self._log.open("ab") as log:
            done = subprocess.run(
                command, env=self.environment | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        if done.returncode:
            raise RuntimeError(
                f"{command[0]}: exit code {done.returncode}: {self._log.read_text(errors='replace')[-2000:]}"
            )

    @staticmethod
    def _end(pids: Iterable[int], gently: bool = False) -> None:
        for pid in pids:
            if not living(pid):
                continue
            if gently:
                os.kill(pid, 15)
                try:
                    wait("its end", lambda pid=pid: not living(pid), 20)
                    continue
                except TimeoutError:
                    pass
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
