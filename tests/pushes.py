"""Print whether pushes end right where BOSS erases late: ``python -m tests.pushes [--sequences N] [--seed N]``.

A sequence is some pushes to one channel, of masks and of empty masks, with erases by somebody else between them, with
readers, and with servers and clients that are killed. Its lag and all else are drawn from its seed; the time is the
server's own, in which waiting costs nothing. The server and its storage: `tests.late_boss`.
"""

from __future__ import annotations

import argparse
import logging
import math
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from nd_synapse.boss import cutouts
from nd_synapse.boss.catalog import find_channel
from nd_synapse.boss.connection import Patience, connect
from nd_synapse.boss.connection import send as send_as_ever
from nd_synapse.boss.push import Destination, push_mask
from nd_synapse.errors import NDSynapseError, UnavailableError
from nd_synapse.geometry import Box, Frame
from nd_synapse.local_boss import voxels
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.catalog import CHANNELS
from tests.faults.boss_plan import FaultPlan, Rule
from tests.faults.jobs import FaultyServer
from tests.late_boss import NEVER, FastClock, LateVoxels

FRAME = Frame("pushes", Box((0, 40), (0, 24), (0, 20)), (70.0, 100.0, 100.0))
CUBOID = (16, 24, 20)
BOX = Box((3, 36), (2, 23), (1, 18))  # three cuboids, all of which reach beyond it
MASKS = {
    "many": lambda rng: rng.random(BOX.shape) < 0.2,
    "few": lambda rng: rng.random(BOX.shape) < 0.005,
    "half": lambda rng: (rng.random(BOX.shape) < 0.1) & (np.arange(BOX.shape[0]) < 20)[:, None, None],
    "empty": lambda _: np.zeros(BOX.shape, bool),
}
LAGS: dict[str, Callable[[random.Random, bool], float]] = {
    "0 s": lambda _rng, _erase: 0.0,
    "1 s": lambda _rng, _erase: 1.0,
    "8 s": lambda _rng, _erase: 8.0,
    "60 s": lambda _rng, _erase: 60.0,
    "0 to 60 s": lambda rng, _erase: rng.uniform(0, 60),
    "0 to 60 s, writes at once": lambda rng, erase: rng.uniform(0, 60) if erase else 0.0,
    "never, one erase of four": lambda rng, erase: NEVER if erase and rng.random() < 0.25 else rng.uniform(0, 8),
}
PATIENT = Patience(connect_s=30, read_s=30, attempts=10, pause_s=0.01, longest_pause_s=0.1)
TRIES = 4


class KilledError(BaseException):
    """The client is killed."""


@dataclass
class Result:
    """What a sequence came to."""

    lag: str
    pushes: int = 0
    done: int = 0
    killed: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Pushes that reported done, and were not."""
    refused: list[str] = field(default_factory=list)
    """Pushes that failed for no reason that they had."""


class Bench:
    """A server whose storage is late, and the sequences that are run against it."""

    def __init__(self, root: Path) -> None:
        self.voxels = LateVoxels(root / "boss", lambda _: 0.0, FastClock(), poll_s=0.5)
        self.server = FaultyServer(root / "boss", self._opened)
        self._folder = Boss(root / "boss")

    def close(self) -> None:
        self.server.close()
        self._folder.close()

    def _opened(self, data: Path) -> Boss:
        boss = Boss(data)
        boss.voxels = self.voxels  # BOSS's storage goes on when its server is killed
        return boss

    def run(self, seed: int) -> Result:
        """Run one sequence."""
        rng = random.Random(seed)
        lag = list(LAGS)[seed % len(LAGS)]
        self.voxels.lag_s = lambda erase: LAGS[lag](rng, erase)
        self.voxels.clock = FastClock(lambda: rng.expovariate(10))
        sequence = _Sequence(self, rng, f"mask-{seed}", Result(lag))
        # blocks of one, two or all cuboids
        most = rng.choice((1, 2, 3)) * CUBOID[0] * math.prod(BOX.shape[1:])
        with mock.patch.object(cutouts, "REQUEST_VOXELS", most):
            sequence.run()
        return sequence.result

    def channel(self, name: str) -> Any:
        return self._folder.catalog.get(CHANNELS, "out", "pushes", name)


@dataclass
class _Sequence:
    bench: Bench
    rng: random.Random
    channel: str
    result: Result
    around: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(FRAME.extent.shape, np.uint8))
    """Voxels around the box."""

    def run(self) -> None:
        drawn = {name: draw(np.random.default_rng(self.rng.getrandbits(32))) for name, draw in MASKS.items()}
        name = shown = "many"
        self._push(name, drawn[name])
        self._surround()
        for _ in range(self.rng.randint(1, 4)):
            # often the one that BOSS still shows while it is about to be erased
            name = shown if self.rng.random() < 0.4 else self.rng.choice(list(drawn))
            for _ in range(self.rng.choice((1, 1, 2))):
                if self._push(name, drawn[name], self._killing):
                    shown = name
            if self.rng.random() < 0.35:
                self._erase_as_somebody_else()
            if self.rng.random() < 0.2:
                self.bench.voxels.clock.sleep(self.rng.uniform(0, 70))
        # the last one is repeated until it is done
        for _ in range(TRIES):
            if self._push(name, drawn[name]):
                break
        else:
            if not self.result.lag.startswith("never"):
                self.result.refused.append("no push was done")
            return
        self.bench.voxels.carry_out(NEVER)
        self._compare("in the end", self._held(), drawn[name])

    def _push(self, name: str, mask: NDArray[Any], within: Callable[[], Any] = nullcontext) -> bool:
        """Push a mask; return whether the push reported that it is done."""
        self.result.pushes += 1
        remote = connect(self.bench.server.url, self.bench.server.token, patience=PATIENT)
        destination = Destination("out", "pushes", self.channel, name, overwrite=True)
        try:
            with within():
                push_mask(remote, destination, BOX, mask, FRAME, progress=self._read_somewhere)
        except NDSynapseError as error:
            self.result.errors[type(error).__name__] += 1
            if not isinstance(error, UnavailableError):
                self.result.refused.append(f"push failed: {error}")
            return False
        except KilledError:
            self.result.killed += 1
            return False
        self.result.done += 1
        self._compare("at once", self._held(), mask)
        self._compare("when all erases have been carried out", self._eventual(), mask)
        return True

    def _held(self) -> NDArray[np.uint8]:
        """Return what a client reads, within `FRAME.extent`."""
        remote = connect(self.bench.server.url, self.bench.server.token, patience=PATIENT)
        return cutouts.read_cutout(remote, find_channel(remote, "out", "pushes", self.channel), FRAME.extent)

    def _eventual(self) -> NDArray[np.uint8]:
        return self.bench.voxels.in_the_end(self.bench.channel(self.channel), FRAME.extent)

    def _compare(self, when: str, held: NDArray[np.uint8], mask: NDArray[Any]) -> None:
        different = held[BOX.slices()] != np.where(mask, 255, 0)
        if different.any():
            self.result.wrong.append(f"a push reported done, and {np.count_nonzero(different)} voxels differ {when}")
        outside = np.ones(held.shape, bool)
        outside[BOX.slices()] = False
        if (held != self.around)[outside].any():
            self.result.wrong.append(f"voxels outside of the box differ {when}")

    def _surround(self) -> None:
        """Write voxels around the box, which no push may change."""
        drawn = np.random.default_rng(1).integers(1, 255, FRAME.extent.shape, np.uint8)
        drawn[BOX.slices()] = 0
        self.around = drawn
        self.bench.voxels.write(self.bench.channel(self.channel), 0, FRAME.extent, (0, 1), drawn[np.newaxis])

    def _erase_as_somebody_else(self) -> None:
        box = self.rng.choice((BOX, self._somewhere()))
        self.bench.voxels.erase(self.bench.channel(self.channel), 0, box, (0, 1))

    def _somewhere(self) -> Box:
        starts = [self.rng.randrange(n) for n in BOX.shape]
        stops = [self.rng.randint(a + 1, n) for a, n in zip(starts, BOX.shape, strict=True)]
        return Box(*((a + o, b + o) for a, b, o in zip(starts, stops, BOX.start, strict=True)))

    def _read_somewhere(self, *_: int) -> None:
        """Read as another client does while a push is going on."""
        if self.rng.random() < 0.2:
            remote = connect(self.bench.server.url, self.bench.server.token, patience=PATIENT)
            try:
                cutouts.read_cutout(remote, find_channel(remote, "out", "pushes", self.channel), self._somewhere())
            except UnavailableError:
                self.result.errors["reader"] += 1

    @contextmanager
    def _killing(self) -> Iterator[None]:
        """Kill the server or the client at one of the next requests for voxels, or neither."""
        kind, number = self.rng.choice(("server", "client before", "client after", "", "")), self.rng.randint(1, 12)
        left = number

        def send(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and kind == "client before":
                raise KilledError
            response = send_as_ever(*arguments)
            if left == 0 and kind == "client after":
                raise KilledError
            return response

        if kind == "server":
            on = self.rng.choice(("cutout-get", "cutout-post"))
            self.bench.server.plan = FaultPlan([Rule("restart", on, first=self.rng.randint(1, 6))])
        try:
            with mock.patch.object(cutouts, "send", send):
                yield
        finally:
            self.bench.server.plan = FaultPlan([])
            assert self.bench.server.is_there()


@contextmanager
def bench(root: Path) -> Iterator[Bench]:
    """Set up a server below a folder."""
    # cuboids of BOSS's extent would hold 500 times as many voxels as the frame
    with mock.patch.object(voxels, "CHUNK", CUBOID):
        made = Bench(root)
        try:
            yield made
        finally:
            made.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run sequences; the exit code is 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.pushes", description="Run sequences of pushes.")
    parser.add_argument("--sequences", type=int, default=300, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first one (default: %(default)s)")
    options = parser.parse_args(argv)
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as root, bench(Path(root)) as place:
        results = {seed: place.run(seed) for seed in range(options.seed, options.seed + options.sequences)}
    sys.stdout.write(shown(list(results.values())))
    failed = {seed: [*result.wrong, *result.refused] for seed, result in results.items()}
    failed = {seed: sentences for seed, sentences in failed.items() if sentences}
    for seed, sentences in failed.items():
        sys.stdout.write(f"WRONG: sequence {seed}, {results[seed].lag}: {sentences[0]}\n")
    sys.stdout.write(f"{len(results)} sequences in {time.monotonic() - began:.0f} s, {len(failed)} wrong\n")
    return 1 if failed else 0


def shown(results: Sequence[Result]) -> str:
    """Return the table in Markdown."""
    lines = [
        "| lag | sequences | pushes | done | killed | BOSS did not answer | done, and wrong | failed without reason |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for lag in LAGS:
        some = [result for result in results if result.lag == lag]
        sums = [sum(getattr(result, name) for result in some) for name in ("pushes", "done", "killed")]
        unavailable = sum(result.errors["UnavailableError"] for result in some)
        bad = [sum(bool(getattr(result, name)) for result in some) for name in ("wrong", "refused")]
        lines.append(f"| {lag} | {' | '.join(map(str, [len(some), *sums, unavailable, *bad]))} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
