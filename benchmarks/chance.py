"""What a confidence is worth: of the detections with some confidence, the share that is right on planted synapses.

Also how many detections are expected by chance and how many are false, and what sampling costs on the published volume.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmarks.data_sets import SYNTHETIC, synthetic
from benchmarks.steps import REAL
from nd_synapse.detection.in_memory import Found, detect_arrays
from nd_synapse.evaluate import Synapses, evaluate_points
from nd_synapse.local_boss.synthetic import SyntheticVolume
from nd_synapse.pipeline import registry

VOXEL_SIZE_NM = (70.0, 100.0, 100.0)
EDGES = (0.0, 0.3, 0.5, 0.7, 0.85, 0.95, 1.01)
FEWEST = 20
"""Detections from which a share is printed."""

PIPELINES: dict[str, tuple[tuple[str, ...], str]] = {
    "nomads-unsupervised": (("Synapsin", "PSD95"), "excitatory"),
    "nomads-classifier": (("Synapsin", "VGlut1", "PSD95", "GluN1", "GABA", "GAD", "gephyrin"), "all"),
    "puncta": (("PSD95",), "puncta"),
}
"""Name to the channels that it gets, and what it is to find: planted synapses, or all puncta of its channel."""

EIGHT = (0.7, 0.85)
"""Where about eight of ten are to be right."""
MOST_OFF, EIGHT_OFF = 0.05, 0.1
"""Most that the mean confidence of all detections may differ from the share that is right, and of those at `EIGHT`."""


def is_right(volume: SyntheticVolume, found: Found, planted: str) -> NDArray[np.bool_]:
    """Return which detections are planted synapses, one to one within 300 nm."""
    synapses = volume.synapses
    if planted == "puncta":
        truth = np.concatenate([synapses.postsynaptic_um[synapses.excitatory], volume.orphans_um["PSD95"]])
    else:
        truth = synapses.centre_um[(np.array(synapses.types) == planted) | (planted == "all")]
    places = np.stack([found.table[f"centroid_{axis}_um"] for axis in "zyx"], axis=1)
    right = np.zeros(len(places), np.bool_)
    right[evaluate_points(Synapses(truth), Synapses(places)).pairs[:, 1]] = True
    return right


def curve(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> Iterator[str]:
    """Yield for each range of confidence its mean and the share that is right."""
    for low, high in pairwise(EDGES):
        some = (confidence >= low) & (confidence < high)
        few = np.count_nonzero(some) < FEWEST
        yield "-" if few else f"{confidence[some].mean():.2f} {right[some].mean():.2f} ({np.count_nonzero(some):,})"


def is_met(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> bool:
    """Return whether the mean confidences are near the shares that are right; unknown ones are."""
    eight = (confidence >= EIGHT[0]) & (confidence < EIGHT[1])
    return all(
        bool(np.isnan(confidence[some]).any()) or abs(confidence[some].mean() - right[some].mean()) <= most
        for some, most in ((slice(None), MOST_OFF), (eight, EIGHT_OFF))
        if np.count_nonzero(confidence[some]) >= FEWEST
    )


def on_planted() -> bool:
    """Print the reliability curves; return whether the mean confidences are right."""
    print("mean confidence, share that is right (detections), by range of confidence")
    ranges = [f"{low:g} to {min(high, 1):g}" for low, high in pairwise(EDGES)]
    print(f"{'':19s} {'':19s} {'false':>6s} {'expected by chance':>24s} " + "".join(f"{one:>19s}" for one in ranges))
    met = True
    for name, (channels, planted) in PIPELINES.items():
        for kind in SYNTHETIC:
            volume = synthetic(kind)
            searched = {channel: volume.channels[channel] for channel in channels}
            found = detect_arrays(registry.build(name, {}), searched, volume.voxel_size_nm, sampled=True)
            right = is_right(volume, found, planted)
            low, share, high = found.chance.expected(len(right))
            confidence = found.table["confidence"]
            cells = "".join(f"{cell:>19s}" for cell in curve(confidence, right))
            expected = f"{share:,} ({low:,} to {high:,})"
            print(f"{name:19s} {kind:19s} {np.count_nonzero(~right):6,d} {expected:>24s} {cells}")
            met &= is_met(confidence, right)
    return met


def on_published() -> None:
    """Print what is expected by chance in the published volume, and what sampling costs."""
    volume = {name: tifffile.imread(REAL / f"{name}.tif") for name in ("PSD95", "SYNAPSIN")}
    found = detect_arrays(registry.build("nomads-unsupervised", {}), volume, VOXEL_SIZE_NM)
    print(f"\nthe published volume: {found.chance.words(len(found.table['id']))}")
    fixed, seconds = registry.build("nomads-unsupervised", {"strictness": "1.6"}), []
    for sampled in (False, True):
        started = time.monotonic()
        found = detect_arrays(fixed, volume, VOXEL_SIZE_NM, sampled=sampled)
        seconds.append(time.monotonic() - started)
    print(f"at a strictness of 1.6: {found.chance.words(len(found.table['id']))}")
    print(f"detection in memory {seconds[0]:.2f} s, with sample fields {seconds[1]:.2f} s")


def main() -> int:
    """Print the tables; return 1 if a mean confidence is wrong."""
    met = on_planted()
    if REAL.is_dir():
        on_published()
    return int(not met)


if __name__ == "__main__":
    raise SystemExit(main())
