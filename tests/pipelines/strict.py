"""A pipeline of one marker with a strictness, for tests: voxels that are so many grey levels bright, in tens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nd_synapse.pipeline.contract import Chosen, Detected, Finding, Objects, Parameter, Pipeline, Place, Summary
from nd_synapse.pipeline.roles import Role


@dataclass(frozen=True, slots=True)
class Strict(Pipeline):
    """Detects bright voxels; the score of an object is its brightest voxel."""

    strictness: float = 5.0

    name = "strict"
    help = "bright voxels"
    roles = (Role("marker", ("psd95",), "any marker"),)
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("strictness", 5.0, "tens", "least brightness", minimum=0.0),
    )

    def halo(self, voxel_size_nm: tuple[float, float, float]) -> tuple[int, int, int]:
        del voxel_size_nm
        return (0, 0, 0)

    def summarise(self, arrays: Mapping[str, NDArray[Any]], place: Place) -> Summary:
        del arrays, place
        return {}

    def learn(self, summary: Summary, channels: Mapping[str, str]) -> Finding:
        del summary, channels
        return {}

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        del finding, place
        levels = arrays["marker"].astype(np.uint16)
        return Detected({"All": levels >= 10 * self.strictness}, {"level": levels})

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        del finding
        chosen = np.ones(len(objects["voxels"]), np.bool_)
        return Chosen({"All": chosen}, {"score": (objects["max_level"] / 10).astype(np.float32)})
