"""A Slurm of Debian's packages on this machine, in a folder of its own: munged, slurmctld and slurmd."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tests.fixtures_s3 import free_port

SBIN = os.pathsep.join(["/usr/sbin", "/sbin", os.environ["PATH"]])
DAEMONS = ("munged", "slurmctld", "slurmd")
WAIT_S = 60

# More cores and memory than there are: containers are as large as the plan says. A job that is put back into the queue
# waits until its credential has expired, by default two minutes.
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket,cred_expire=5
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobCompType=jobcomp/filetxt
JobCompLoc={root}/jobs.txt
ReturnToService=2
SchedulerParameters=sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=65536 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Return which programs are not installed."""
    return [name for name in DAEMONS if shutil.which(name, path=SBIN) is None]


@dataclass(frozen=True)
class Slurm:
    """A running cluster of one machine."""

    root: Path
    peak_bytes: dict[str, int] = field(default_factory=dict)
    """Job to the largest memory of its processes together, as Slurm samples it each second."""

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.root / "slurm.conf")}

    def run(self, *words: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
        """Run a command of Slurm, or one that calls some; return what it prints."""
        done = subprocess.run(
            words, env={**(environment or os.environ), **self.environment}, cwd=cwd, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def await_end(self, limit_s: float) -> None:
        """Wait until no job is left, and note their memory meanwhile."""
        deadline = time.monotonic() + limit_s
        while queue := self.run("squeue", "--noheader"):
            assert time.monotonic() < deadline, f"{queue}\n{self.run('scontrol', 'show', 'job')}"
            self.note_memory()
            time.sleep(0.5)

    def note_memory(self) -> None:
        """Ask for the memory of the jobs that run; the record of those that have ended lacks it."""
        running = _printed(self, "squeue", "--noheader", "--states=RUNNING", "--format=%A").split()
        words = ("sstat", "--allsteps", "--noheader", "--parsable2", "--noconvert", "--format=JobID,MaxRSS", "--jobs")
        for line in _printed(self, *words, ",".join(running)).split() if running else []:
            step, _, size = line.partition("|")
            job = step.partition(".")[0]
            self.peak_bytes[job] = max(self.peak_bytes.get(job, 0), int(size or 0))

    def accounting(self) -> list[dict[str, str]]:
        """Return what Slurm recorded of each job that has ended: its fields."""
        lines = (self.root / "jobs.txt").read_text().splitlines()
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]

    def table(self, jobs: Mapping[str, str]) -> str:
        """Return what jobs took, by their names: the clock, seconds of all children, the memory of the largest."""
        lines = ["| job | children | elapsed (s) | all children (s) | MaxRSS (MiB) |", "|---|--:|--:|--:|--:|"]
        ended = [job for job in self.accounting() if job["JobState"] == "COMPLETED"]
        for name, number in jobs.items():
            children = [job for job in ended if number in (job["JobId"], job.get("ArrayJobId"))]
            times = [[datetime.fromisoformat(job[key]) for key in ("StartTime", "EndTime")] for job in children]
            elapsed = max(end for _, end in times) - min(start for start, _ in times)
            work_s = sum((end - start).total_seconds() for start, end in times)
            peak = max(self.peak_bytes.get(job["JobId"], 0) for job in children) / 2**20
            lines.append(f"| {name} | {len(children)} | {elapsed.total_seconds():.0f} | {work_s:.0f} | {peak:.0f} |")
        return "\n".join(lines)


@contextmanager
def start_slurm(root: Path) -> Iterator[Slurm]:
    """Start a cluster, and end it with all of its jobs."""
    for name in ("state", "spool"):
        (root / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    ports = {"controller": free_port(), "node": free_port()}
    (root / "slurm.conf").write_text(CONF.format(root=root, host=host, user=getpass.getuser(), **ports))
    (root / "key").write_bytes(secrets.token_bytes(64))
    (root / "key").chmod(0o600)
    files = {"key-file": "key", "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "seed"}
    munge = [f"--{option}={root / name}" for option, name in {**files, "log-file": "munged.log"}.items()]
    slurm = Slurm(root)
    with ExitStack() as stack:
        stack.enter_context(_daemon(root, "munged", "--foreground", "--force", *munge))
        _await(lambda: (root / "munge.socket").exists(), "munged")
        stack.enter_context(_daemon(root, "slurmctld", "-D"))
        stack.enter_context(_daemon(root, "slurmd", "-D", "-N", host))
        _await(lambda: "idle" in _printed(slurm, "sinfo", "--noheader"), "a node")
        try:
            yield slurm
        finally:
            _printed(slurm, "scancel", f"--user={getpass.getuser()}")
            _await(lambda: not _printed(slurm, "squeue", "--noheader"), "the end of all jobs")


@contextmanager
def _daemon(root: Path, name: str, *words: str) -> Iterator[None]:
    """Run a daemon."""
    program = shutil.which(name, path=SBIN)
    assert program is not None
    with (root / f"{name}.txt").open("w") as log:
        environment = {**os.environ, "SLURM_CONF": str(root / "slurm.conf")}
        process = subprocess.Popen([program, *words], stdout=log, stderr=log, env=environment)
        try:
            yield
        finally:
            process.terminate()
            process.wait(WAIT_S)


def _printed(slurm: Slurm, *words: str) -> str:
    """Return what a command prints, nothing if it fails."""
    return subprocess.run(words, env={**os.environ, **slurm.environment}, capture_output=True, text=True).stdout


def _await(has_come, what: str) -> None:
    """Wait for something."""
    deadline = time.monotonic() + WAIT_S
    while not has_come():
        assert time.monotonic() < deadline, f"{what} did not come within {WAIT_S} s"
        time.sleep(0.2)
