"""A small job against a local BOSS with faults, and the verdict on how it ended.

The server is the real one, in a thread of this process, so that the plan can change from run to run. The pool of the
detection is in this process, too: its workers send nothing to BOSS.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import uvicorn
from numpy.typing import NDArray

from nd_boss import Patience
from nd_synapse.boss import resource
from nd_synapse.credentials import Token
from nd_synapse.detection import on_disk
from nd_synapse.errors import NDSynapseError
from nd_synapse.geometry import Box
from nd_synapse.job import steps
from nd_synapse.job.folder import ResultFolder, locked
from nd_synapse.job.job import Job
from nd_synapse.local_boss import tokens
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.catalog import CHANNELS
from nd_synapse.local_boss.server import application, bound, configured
from tests.detection.in_process import InProcessPool
from tests.faults.boss_faults import FaultyBoss
from tests.faults.boss_plan import FaultPlan
from tests.fixtures_boss import fill

SHAPE = (4, 34, 40)
BOX = Box((0, 4), (1, 33), (4, 36))  # less than the volume: around it, nothing may change
BLOCK = (2, 64, 64)
PATIENT = Patience(connect_s=30, read_s=30, attempts=5, pause_s=0.02, longest_pause_s=0.2)
BRISK = replace(PATIENT, read_s=0.5)
"""For faults that delay an answer; a busy machine must not meet it in other runs."""
LIMIT_S = 300.0
"""A run that takes longer counts as wrong: it has a few dozen requests, each within the limits of `PATIENT`."""

FILES = ("nomads-unsupervised-predictions.pkl", "nomads-unsupervised-predictions.ome.tiff", "synapses.csv")
OUT = "out"


def volume() -> dict[str, NDArray[np.uint8]]:
    """Return two markers with blobs where they meet."""
    rng = np.random.default_rng(5)
    before, after = (rng.poisson(12, SHAPE).astype(np.uint8) for _ in range(2))
    for z, y, x in rng.integers((1, 4, 6), (3, 30, 34), (9, 3)):
        for channel in (before, after):
            channel[z - 1 : z + 2, y - 2 : y + 2, x - 2 : x + 2] += 120
    return {"SYNAPSIN": before, "PSD95": after}


class _Killable(uvicorn.Server):
    """A server that closes all connections at its end, also those that are opened meanwhile."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for _ in range(100):
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            await asyncio.sleep(0.01)
            if not self.server_state.connections:
                break


class FaultyServer:
    """A local BOSS on its own port; its plan may be changed while it runs, and it restarts when killed.

    `opened` opens its data folder.
    """

    def __init__(self, data: Path, opened: Callable[[Path], Boss] = Boss) -> None:
        self.data = data
        self._opened = opened
        self.plan = FaultPlan([])
        fill(data, "given", "volume", volume())
        self.token = tokens.writing_token(data)
        self._ends = False
        self._server: uvicorn.Server | None = None
        listener = bound("127.0.0.1", 0)
        self.port = int(listener.getsockname()[1])
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._live, args=(listener,), daemon=True)
        self._thread.start()
        assert self._ready.wait(20), "the server did not start"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._ends = True
        self.kill()
        self._thread.join(20)
        assert not self._thread.is_alive(), "the server did not end"

    def is_there(self) -> bool:
        """Return whether the server runs again after it was killed."""
        for _ in range(400):
            server = self._server
            # one that was killed may take connections for a moment yet
            if server is not None and server.started and not server.should_exit:
                return True
            time.sleep(0.05)
        return False

    def kill(self) -> None:
        """End the server with all of its connections; pending requests are not answered."""
        server = self._server
        assert server is not None
        server.should_exit = server.force_exit = True
        for connection in list(server.server_state.connections):
            connection.transport.abort()

    def _live(self, listener: socket.socket) -> None:
        while True:
            boss = self._opened(self.data)
            answering = application(boss, tokens.load(self.data))
            self._server = _Killable(configured(_Replanned(self, answering)))
            self._ready.set()
            with listener:
                self._server.run([listener])
            boss.close()
            if self._ends:
                return
            listener = bound("127.0.0.1", self.port)


class _Replanned:
    """The application with the faults of the current plan; each plan remembers its own reads."""

    def __init__(self, server: FaultyServer, application: Any) -> None:
        self._server = server
        self._application = application
        self._plan: FaultPlan | None = None
        self._faulty: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._server.plan is not self._plan:
            self._plan = self._server.plan
            self._faulty = FaultyBoss(self._application, self._plan, self._server.kill)
        await self._faulty(scope, receive, send)


@dataclass
class Verdict:
    """How a job with faults ended, and what was wrong with its results or with those of the repeated job."""

    hits: dict[str, int]
    error: NDSynapseError | None
    seconds: float
    wrong: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """``same``, or the error with its exit code; ``WRONG`` if anything was."""
        if self.wrong:
            return "WRONG"
        return "same" if self.error is None else f"{type(self.error).__name__} {self.error.exit_code}"


class Bench:
    """A server, the results of a clean run, and a folder for further runs."""

    def __init__(self, root: Path, server: FaultyServer, patience: mock.Mock) -> None:
        self.root = root
        self.server = server
        self._patience = patience
        self._numbers = 0
        clean = self.job()
        error = self.run(clean)
        assert error is None, error
        self.reference = self.delivered(clean)
        assert set(self.reference) == {*FILES, "channel"}
        mask = self.channel(clean)
        assert 0 < np.count_nonzero(mask) < mask.size / 2

    def job(self, **options: Any) -> Job:
        """Return a job with a folder and a channel of its own."""
        self._numbers += 1
        return Job(
            host=self.server.url,
            token=Token(self.server.token),
            collection="given",
            experiment="volume",
            box=BOX,
            path=self.root / f"run-{self._numbers}",
            out_collection=OUT,
            out_experiment=f"run-{self._numbers}",
            **{"block_size": BLOCK, "plots": False, "cpus": 1, "pulls": 1, **options},
        )

    def run(self, job: Job) -> NDSynapseError | None:
        """Do a job as the command line does; return the error that gives its exit code."""
        folder = ResultFolder(job.path, job.results_key)
        with locked(folder.root):
            try:
                outcome = steps.run(job, folder, lambda *_: None)
            except NDSynapseError as error:
                return error
            steps.finish(outcome, folder)
        return outcome.errors[0] if outcome.errors else None

    def channel(self, job: Job) -> NDArray[np.uint8]:
        """Return all voxels of the mask's channel as they lie in the server's folder."""
        with self._opened(job) as (boss, channel):
            return np.asarray(boss.voxels.read(channel, 0, Box.of_shape(SHAPE), (0, 1))).reshape(SHAPE)

    def scribble(self, job: Job) -> None:
        """Write another mask into the channel of a job, as an earlier run may have left it."""
        assert self.run(job) is None
        other = np.random.default_rng(3).integers(0, 2, (1, *BOX.shape), np.uint8) * np.uint8(255)
        with self._opened(job) as (boss, channel):
            boss.voxels.write(channel, 0, BOX, (0, 1), other)

    @contextmanager
    def _opened(self, job: Job) -> Iterator[tuple[Boss, Any]]:
        """Open the server's folder, and find the channel of a job in it."""
        boss = Boss(self.server.data)
        try:
            yield boss, boss.catalog.get(CHANNELS, job.out_collection, job.out_experiment, f"{job.results_key}_All")
        finally:
            boss.close()

    def delivered(self, job: Job) -> dict[str, bytes]:
        """Return what a finished job left, in its folder and in BOSS."""
        root = job.path / job.results_key
        return {**{name: (root / name).read_bytes() for name in FILES}, "channel": self.channel(job).tobytes()}

    def try_out(self, plan: FaultPlan, *, job: Job | None = None, dirty: bool = False) -> Verdict:
        """Run a job under a plan; if it ends with an error, run it again without; compare with a clean run."""
        job = job or self.job()
        if dirty:
            self.scribble(job)
        began = time.monotonic()
        self.server.plan = plan
        if any(rule.fault in ("slow", "stall") for rule in plan.rules):
            self._patience.return_value = BRISK
        try:
            error = self.run(job)
        finally:
            self.server.plan = FaultPlan([])
            self._patience.return_value = PATIENT
        assert self.server.is_there()
        verdict = Verdict(dict(plan.hits), error, time.monotonic() - began)
        if verdict.seconds > LIMIT_S:
            verdict.wrong.append(f"it took {verdict.seconds:.0f} s")
        if error is not None:
            verdict.wrong += self._half_done(job)
            again = self.run(job)
            if again is not None:
                verdict.wrong.append(f"the same command, undisturbed, ended with {again}")
                return verdict
        found = self.delivered(job)
        verdict.wrong += [f"{name} differs" for name in self.reference if found[name] != self.reference[name]]
        shutil.rmtree(job.path)
        return verdict

    def _half_done(self, job: Job) -> Iterator[str]:
        """Yield the files that a run which ended with an error should not have left."""
        root = job.path / job.results_key
        for name in FILES:
            if (root / name).exists() and (root / name).read_bytes() != self.reference[name]:
                yield f"{name} was left, and differs"


@contextmanager
def bench(root: Path) -> Iterator[Bench]:
    """Set up a server and a clean run under a folder."""
    server = FaultyServer(root / "boss")
    with (
        mock.patch.object(on_disk, "BlockPool", InProcessPool),
        mock.patch.object(resource, "Patience", return_value=PATIENT) as patience,
    ):
        try:
            yield Bench(root / "results", server, patience)
        finally:
            server.close()
