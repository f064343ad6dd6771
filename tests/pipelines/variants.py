"""Every registered pipeline with its defaults, and some with other parameters; volumes for any of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nd_synapse.detection.in_memory import Found
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Pipeline

VOXEL_SIZE_NM = (70.0, 100.0, 100.0)

VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    **{name: (name, {}) for name in registry.names()},
    # low enough for thin objects, too, to have voxels
    "probabilistic-low": ("probabilistic", {"threshold": "0.2"}),
    "nomads-unsupervised-one-channel": ("nomads-unsupervised", {"evidence": "one-channel"}),
    "function": (f"{__name__}:bright", {}),
}
"""Id to name and parameters."""


def bright(data_dict: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.bool_]]:
    """A plain function with a halo and two masks that differ within objects."""
    inner = {
        name: voxels[1:-1, 2:-2, 2:-2] + voxels[:-2, 2:-2, :-4].astype(np.uint32) for name, voxels in data_dict.items()
    }
    one, two = inner.values()
    top = np.iinfo(next(iter(data_dict.values())).dtype).max
    return {"Either": (one > top // 2) | (two > top // 2), "Second": two > top // 2}


bright.halo = (1, 2, 2)  # type: ignore[attr-defined] # a function declares by attributes
bright.masks = ("Either", "Second")  # type: ignore[attr-defined] # a function declares by attributes


EVERY = [
    variant if variant == "nomads-unsupervised" else pytest.param(variant, marks=pytest.mark.slow)
    for variant in VARIANTS
]
"""The variants as parameters of tests that take long: the everyday ones have the default."""


def built(variant: str) -> Pipeline:
    """Return the pipeline of a variant."""
    name, given = VARIANTS[variant]
    return registry.build(name, given)


def channel_names(pipeline: Pipeline) -> list[str]:
    """Return names in which the pipeline finds its roles, optional ones too."""
    return [next(iter(role.markers), role.name) for role in pipeline.roles] or ["one", "two"]


def volume(
    pipeline: Pipeline, shape: tuple[int, int, int], dtype: type[np.unsignedinteger[Any]], kind: str, seed: int = 0
) -> dict[str, NDArray[Any]]:
    """Return read-only channels: noise with spots that all channels share, or what puts a pipeline to the test."""
    rng = np.random.default_rng(seed)
    top = int(np.iinfo(dtype).max)
    spots = rng.random(shape) < 0.02
    for axis in range(3):
        spots |= np.roll(spots, 1, axis)
    channels = {}
    for place, name in enumerate(channel_names(pipeline)):
        voxels = {
            "spots": np.where(spots, rng.integers(top // 2, top + 1, shape), rng.integers(0, top // 3, shape)),
            "noise": rng.integers(0, top + 1, shape),
            "zero": np.zeros(shape),
            "constant": np.full(shape, 7),
            "saturated": np.full(shape, top),
            "one-constant": np.full(shape, 7) if place == 0 else rng.integers(0, top + 1, shape),
            "half-saturated": np.where(rng.random(shape) < 0.5, top, 0),
            "one-bright": np.where(np.arange(np.prod(shape)).reshape(shape) == np.prod(shape) // 2, top, 0),
        }[kind]
        channels[name] = voxels.astype(dtype)
        channels[name].flags.writeable = False
    return channels


KINDS = ("spots", "noise", "zero", "constant", "saturated", "one-constant", "half-saturated", "one-bright")


def same(one: Found | str, other: Found | str) -> None:
    """Assert that two results are the same bytes."""
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
        return
    assert one.finding == other.finding
    assert {name: mask.tobytes() for name, mask in one.masks.items()} == {
        name: mask.tobytes() for name, mask in other.masks.items()
    }
    assert np.array_equal(np.asarray(one.labels), np.asarray(other.labels))
    assert list(one.table) == list(other.table)
    for name, values in one.table.items():
        assert values.dtype == other.table[name].dtype, name
        assert values.tobytes() == other.table[name].tobytes(), name
    assert one.scores.keys() == other.scores.keys()
    for name, scores in one.scores.items():
        assert scores.tobytes() == other.scores[name].tobytes(), name
