"""How fast a run is: what a plan assumes of one, and what a run measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["ASSUMED", "Measured", "Speeds"]

_PASSES = ("statistics", "detect")
"""Without these, which take most of the time, a speed says nothing of a whole run."""

_SERVICE_BYTES_S = 200e6
"""All cutouts together, as assumed of BOSS."""


@dataclass(frozen=True, slots=True)
class Speeds:
    """What the time of a run is computed from: least and most, the same where it was measured."""

    worker_voxels_s: tuple[float, float] = (5e6, 20e6)
    """Voxels of the box that a worker does in a second, in all passes together."""
    cutout_bytes_s: tuple[float, float] = (2e6, 20e6)
    """Bytes that a cutout in flight brings in a second, before compression."""
    most_bytes_s: float = _SERVICE_BYTES_S
    """Bytes that all cutouts together bring at most."""
    run: str = ""
    """Where they were measured; empty for assumptions."""

    def __str__(self) -> str:
        """Return them in words."""
        in_all = f"at most {self.most_bytes_s / 1e6:.0f} MB/s in all"
        cutout = f"{_range(self.cutout_bytes_s, 1e6)} MB/s a cutout in flight, {in_all}"
        worker = f"{_range(self.worker_voxels_s, 1e6)} million voxels/s a worker"
        return f"{cutout}; {worker}{f', as measured in {self.run}' if self.run else ''}"


ASSUMED = Speeds()


def _range(ends: tuple[float, float], unit: float) -> str:
    """Format two numbers, or one."""
    return " to ".join(dict.fromkeys(f"{end / unit:.3g}" for end in ends))


@dataclass(slots=True)
class Measured:
    """What the workers and the threads that pull did, and how long they took for it."""

    passes: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Pass to the voxels of its blocks, and seconds of workers."""
    pulled: tuple[int, float] = (0, 0.0)
    """Bytes that the statistics pulled, before compression, and seconds of cutouts."""
    reading: tuple[int, float] = (0, 0.0)
    """The same bytes, and seconds from the first request of a pass to the last answer."""

    def add_block(self, name: str, voxels: int, seconds: float) -> None:
        """Add a block of a pass."""
        self.passes[name] = _sum(self.passes.get(name, (0, 0.0)), (voxels, seconds))

    def add_pulls(self, count: int, seconds: float, elapsed_s: float) -> None:
        """Add the bytes that a pass pulled."""
        self.pulled = _sum(self.pulled, (count, seconds))
        self.reading = _sum(self.reading, (count, elapsed_s))

    def add(self, other: Measured) -> None:
        """Add what another part of the run measured; its threads pulled beside those of this one."""
        for name, done in other.passes.items():
            self.add_block(name, *done)
        self.pulled = _sum(self.pulled, other.pulled)
        self.reading = _sum(self.reading, other.reading)

    @property
    def worker_voxels_s(self) -> float | None:
        """Voxels of the box that a worker does in a second in all passes; None where a large pass was not done."""
        if not all(self.passes.get(name, (0, 0.0))[0] for name in _PASSES):
            return None
        # each pass by itself: of a resumed run they did different numbers of blocks
        seconds = sum(seconds / voxels for voxels, seconds in self.passes.values() if voxels)
        return 1 / seconds if seconds > 0 else None

    @property
    def cutout_bytes_s(self) -> float | None:
        """Bytes that a cutout in flight brought in a second; None where nothing was pulled."""
        return _rate(self.pulled)

    def speeds(self, run: str) -> Speeds:
        """Return them for a plan; what was not measured stays assumed."""
        worker, cutout = self.worker_voxels_s, self.cutout_bytes_s
        return Speeds(
            ASSUMED.worker_voxels_s if worker is None else (worker, worker),
            ASSUMED.cutout_bytes_s if cutout is None else (cutout, cutout),
            max(ASSUMED.most_bytes_s, _rate(self.reading) or 0.0),
            run,
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        passes = {name: _as_json("voxels", done) for name, done in self.passes.items()}
        worker, cutout = self.worker_voxels_s, self.cutout_bytes_s
        return {
            "worker_voxels_s": None if worker is None else round(worker),
            "cutout_bytes_s": None if cutout is None else round(cutout),
            "passes": passes,
            "pulled": _as_json("bytes", self.pulled),
            "reading": _as_json("bytes", self.reading),
        }

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> Self:
        """Read what `as_json` returned."""
        passes = {str(name): _of_json("voxels", done) for name, done in content["passes"].items()}
        return cls(passes, _of_json("bytes", content["pulled"]), _of_json("bytes", content["reading"]))


def _sum(one: tuple[int, float], other: tuple[int, float]) -> tuple[int, float]:
    return one[0] + other[0], one[1] + other[1]


def _rate(done: tuple[int, float]) -> float | None:
    count, seconds = done
    return count / seconds if count and seconds > 0 else None


def _as_json(unit: str, done: tuple[int, float]) -> dict[str, float]:
    return {unit: done[0], "seconds": round(done[1], 6)}


def _of_json(unit: str, content: Mapping[str, Any]) -> tuple[int, float]:
    count, seconds = int(content[unit]), float(content["seconds"])
    if count < 0 or not 0 <= seconds < float("inf"):
        raise ValueError(f"{count} {unit} in {seconds} s")
    return count, seconds
