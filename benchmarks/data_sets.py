"""The synthetic volumes that pipelines are measured on: the sample of ``docs/sample.md``, and harder ones."""

from __future__ import annotations

from nd_synapse.local_boss.sample import SHAPE
from nd_synapse.local_boss.synthetic import Parameters, SyntheticVolume, generate

__all__ = ["SYNTHETIC", "synthetic"]

SYNTHETIC: dict[str, tuple[tuple[int, int, int], Parameters]] = {
    "sample": (SHAPE, Parameters()),
    "half the signal": (SHAPE, Parameters(punctum_brightness=Parameters().punctum_brightness / 2)),
    "one section, sparse": ((1, 1536, 1536), Parameters(density_per_um3=0.2)),
    "twice the orphans": (SHAPE, Parameters(orphan_synapsin_fraction=0.4, orphan_psd95_fraction=0.3)),
    "dim partners": (SHAPE, Parameters(dim_orphan_fraction=5.0)),
}
"""Name to shape (z, y, x) and parameters."""


def synthetic(name: str, shape: tuple[int, int, int] | None = None, seed: int = 0) -> SyntheticVolume:
    """Draw one of the volumes; a smaller one where `shape` is given."""
    whole, parameters = SYNTHETIC[name]
    return generate(shape or whole, seed=seed, parameters=parameters)
