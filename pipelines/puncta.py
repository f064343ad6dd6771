"""The pipeline `puncta`: the puncta of one marker, by its contrast in units of its noise (`evidence`).

It needs no second marker, so it cannot tell a synapse from a punctum that has no partner: what it counts is puncta.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nd_synapse.pipeline.contract import Null
from nd_synapse.pipeline.roles import Role, find_channels
from pipelines.evidence import EvidencePipeline

__all__ = ["Puncta"]


@dataclass(frozen=True, slots=True)
class Puncta(EvidencePipeline):
    """Detects where one marker stands out."""

    name = "puncta"
    help = "one marker, one mask: where it stands out"
    roles = (Role("marker", (), "the marker whose puncta are detected"),)
    null = Null()

    def choose(self, channels: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
        """Take the named channel, or the only one that there is: nobody else can know which is meant."""
        if not chosen and len(channels) == 1:
            return {"marker": channels[0]}
        return find_channels(self.roles, channels, chosen)
