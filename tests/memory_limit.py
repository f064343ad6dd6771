"""A command and all its children under one limit of memory that the operating system enforces.

It measures nothing but memory, and it is no sandbox: files, network and time are the command's own affair.

The limit is that of a control group made for the command and removed after it: of version 2 or 1 where this process
may make one below or beside its own, otherwise a transient scope of the user's systemd. Swap is off in it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

__all__ = ["Completed", "NoLimitError", "demand_memory_limit", "run_limited"]

ROOT = Path("/sys/fs/cgroup")
SAMPLE_S = 0.05
END_LIMIT_S = 10.0
SYSTEMD_LIMIT_S = 20.0

_numbers = count(1)


class NoLimitError(RuntimeError):
    """Nothing on this machine lets us limit the memory of a command; the message says what was tried."""


@dataclass(frozen=True)
class Completed:
    """What a command came to.

    `peak_bytes` is the largest sum of anonymous and shared memory of all its processes at once, as the kernel accounts
    for the group, looked at every 50 ms. Pages of files are left out: where memory is short they are written back and
    given up. So is what the kernel needs itself, most of which is such a cache as well. `killed` counts the processes
    that the kernel ended because the group was over its limit.
    """

    returncode: int
    stdout: str
    stderr: str
    peak_bytes: int
    killed: int


def demand_memory_limit() -> None:
    """Skip the test that calls this where no limit can be enforced; in CI, fail it."""
    try:
        with _group(1 << 30):
            pass
    except NoLimitError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


def run_limited(
    command: Sequence[str | os.PathLike[str]],
    limit_bytes: int,
    *,
    timeout_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Completed:
    """Run a command and all its children under one limit; none of them is left when this returns.

    Raises `NoLimitError` if no limit can be enforced, and `subprocess.TimeoutExpired` with what was printed until then.
    """
    with ExitStack() as stack:
        group = stack.enter_context(_group(limit_bytes))
        environment = {**(os.environ if env is None else env), **group.environment}
        process = stack.enter_context(
            subprocess.Popen(
                [*group.prefix, *command],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=cwd,
                env=environment,
            )
        )
        stack.callback(process.kill)
        watch = stack.enter_context(_Watch(lambda: group.usage(process.pid)))
        stack.callback(group.end)  # before the pipes are closed: a child that lives on holds them open
        stdout, stderr = process.communicate(timeout=timeout_s)
        watch.look()
    return Completed(process.returncode, stdout, stderr, watch.peak_bytes, watch.killed)


@dataclass(frozen=True)
class _Version:
    """The names of the files of a version of control groups, and of the fields in them."""

    limit: str
    swap: str
    usage: tuple[str, ...]
    events: str


_V2 = _Version("memory.max", "memory.swap.max", ("anon", "shmem"), "memory.events")
# In version 1 a field without "total_" leaves out the groups below.
_V1 = _Version(
    "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", ("total_rss", "total_shmem"), "memory.oom_control"
)


@dataclass(frozen=True)
class _Usage:
    """Bytes in use, and processes that were killed because they were used up."""

    bytes: int
    killed: int


class _ControlGroup:
    """A group of our own, in its folder."""

    environment: Mapping[str, str] = {}

    def __init__(self, version: _Version, folder: Path) -> None:
        self._version = version
        self._folder = folder
        # The shell moves itself into the group and then becomes the command, so nothing of it starts outside.
        self.prefix = ("/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(folder / "cgroup.procs"))

    def usage(self, _pid: int) -> _Usage | None:
        return _read(self._version, self._folder)

    def end(self) -> None:
        """Kill what is left in the group, and wait until it has gone."""
        deadline = time.monotonic() + END_LIMIT_S
        while pids := (self._folder / "cgroup.procs").read_text().split():
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes {', '.join(pids)} in {self._folder} do not end")
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.01)


class _Scope:
    """A transient scope of the user's systemd, which removes it when its last process has ended."""

    def __init__(self, limit_bytes: int) -> None:
        self._unit = f"nd-synapse-test-{os.getpid()}-{next(_numbers)}.scope"
        # A session without a login does not say where the user's systemd is.
        self.environment = {"XDG_RUNTIME_DIR": os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")}
        # A delegated scope goes on when one of its processes is killed, as the other groups do.
        properties = ("-p", f"MemoryMax={limit_bytes}", "-p", "MemorySwapMax=0", "-p", "Delegate=yes")
        self.prefix = ("systemd-run", "--user", "--scope", "--quiet", f"--unit={self._unit}", *properties, "--")

    def usage(self, pid: int) -> _Usage | None:
        try:
            path = Path(f"/proc/{pid}/cgroup").read_text().partition("0::")[2].strip()
        except OSError:
            return None
        return _read(_V2, ROOT / path.lstrip("/")) if path.endswith(self._unit) else None

    def end(self) -> None:
        # it fails where the scope has ended by itself, which is as good
        self._run(["systemctl", "--user", "kill", "--signal=SIGKILL", self._unit])

    def why_not(self) -> str:
        """Return why systemd cannot limit a command, nothing if it can."""
        if not shutil.which("systemd-run"):
            return "there is no systemd-run"
        try:
            done = self._run([*self.prefix, "true"])
        except subprocess.TimeoutExpired:
            return "systemd-run does not answer"
        return f"systemd-run: {done.stderr.strip()}" if done.returncode else ""

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SYSTEMD_LIMIT_S)


class _Watch:
    """A thread that looks at a group again and again, until it is left."""

    def __init__(self, usage: Callable[[], _Usage | None]) -> None:
        self._usage = usage
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.peak_bytes = 0
        self.killed = 0

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def look(self) -> None:
        usage = self._usage()
        if usage is not None:
            self.peak_bytes = max(self.peak_bytes, usage.bytes)
            self.killed = max(self.killed, usage.killed)

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.look()


@contextmanager
def _group(limit_bytes: int) -> Iterator[_ControlGroup | _Scope]:
    """Make a limited group, by whichever means works first; it is empty and gone in the end."""
    tried = []
    for version, parent in _places():
        try:
            folder = _made(version, parent, limit_bytes)
        except OSError as error:
            tried.append(f"{parent}: {error.strerror}")
            continue
        group = _ControlGroup(version, folder)
        try:
            yield group
        finally:
            group.end()
            folder.rmdir()
        return
    reason = _Scope(limit_bytes).why_not()
    if reason:
        raise NoLimitError(f"no memory limit can be enforced here: {'; '.join([*tried, reason])}")
    yield _Scope(limit_bytes)


def _places() -> list[tuple[_Version, Path]]:
    """Return where a group may be made: below our own, or in version 2, which wants no processes there, beside it."""
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    places = []
    if (ROOT / "cgroup.controllers").exists():
        below = ROOT / own[""].lstrip("/")
        places += [(_V2, folder) for folder in (below, below.parent) if folder.is_relative_to(ROOT)]
    for controllers, path in own.items():
        if "memory" in controllers.split(","):
            places.append((_V1, ROOT / "memory" / path.lstrip("/")))
    return places


def _made(version: _Version, parent: Path, limit_bytes: int) -> Path:
    folder = parent / f"nd-synapse-test-{os.getpid()}-{next(_numbers)}"
    folder.mkdir()
    try:
        (folder / version.limit).write_text(str(limit_bytes))
        if (folder / version.swap).exists():  # version 1 limits memory and swap together, version 2 swap alone
            (folder / version.swap).write_text(str(limit_bytes) if version is _V1 else "0")
    except OSError:
        folder.rmdir()
        raise
    return folder


def _read(version: _Version, folder: Path) -> _Usage | None:
    """Look at a group; None if it has gone already."""
    try:
        sizes = _fields(folder / "memory.stat")
        return _Usage(sum(sizes[name] for name in version.usage), _fields(folder / version.events)["oom_kill"])
    except OSError:
        return None


def _fields(file: Path) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in file.read_text().splitlines())}


if __name__ == "__main__":
    finished = run_limited(sys.argv[2:], int(sys.argv[1]), timeout_s=3600)
    sys.stdout.write(finished.stdout)
    sys.stderr.write(f"{finished.stderr}peak {finished.peak_bytes} bytes, {finished.killed} killed\n")
    sys.exit(finished.returncode)
