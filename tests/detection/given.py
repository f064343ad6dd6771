"""A pipeline that detects what it is given as a channel: for what comes after the detection.

It is no detector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from nd_synapse.pipeline.contract import Detected, Finding, Pipeline, Place
from nd_synapse.pipeline.roles import Role


@dataclass(frozen=True, slots=True)
class Given(Pipeline):
    """Its one channel, ``mask``, says which voxels belong to synapses."""

    name = "given"
    help = "what is not 0 in the channel mask"
    roles = (Role("mask", ("mask",), "what is to be found"),)

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        return Detected({"All": arrays["mask"] > 0})
