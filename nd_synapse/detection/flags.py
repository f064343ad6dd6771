"""Objects that are probably no synapses though every rule of the pipeline holds for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.detection.outcome import Brightness

__all__ = ["BRIGHT_EVERYWHERE", "FAR_SD", "bright_everywhere"]

BRIGHT_EVERYWHERE = "bright_everywhere"
"""The column of the table."""

FAR_SD = 3.0
"""Standard deviations above a channel's mean from which an object is bright in it."""


def bright_everywhere(
    channels: Collection[str],
    mean_in: Callable[[str], NDArray[Any]],
    brightness: Mapping[str, Brightness],
    searched: Collection[str],
) -> NDArray[np.bool_] | None:
    """Return which objects are bright in every measured channel, shape (n,), given their means in one, float64 (n,).

    Lipofuscin, dirt, folds and seams of sections are; no synapse has every marker. All synapses are bright in the
    channels that were searched for them, so another one must be measured, too: None otherwise, and where the brightness
    of a measured channel is unknown.
    """
    if set(channels) <= set(searched) or not set(channels) <= brightness.keys():
        return None
    limits = {channel: brightness[channel].mean + FAR_SD * brightness[channel].sd for channel in channels}
    bright = (mean_in(channel) > limit for channel, limit in limits.items())
    return reduce(np.logical_and, bright)
