"""The pipeline `nomads-unsupervised`: two markers in, one mask of synapses out, no training, no types of synapses.

A synapse is where a pre-synaptic and a post-synaptic marker both stand out from their noise (`evidence`): neither alone
can make one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nd_synapse.errors import UsageError
from nd_synapse.pipeline.contract import Null, Parameter, Pipeline
from pipelines.evidence import PARAMETERS, EvidencePipeline
from pipelines.nomads_2018 import LARGEST_DROPPED, ROLES, Nomads2018

__all__ = ["NomadsUnsupervised", "build"]


@dataclass(frozen=True, slots=True)
class NomadsUnsupervised(EvidencePipeline):
    """Detects a synapse where two markers both stand out."""

    name = "nomads-unsupervised"
    help = "two markers, one mask: where a pre-synaptic and a post-synaptic marker both stand out"
    roles = ROLES
    null = Null(("presynaptic",))

    @property
    def settings(self) -> Mapping[str, int | float | str]:
        """Every parameter of `build`, so that a channel of an earlier release is recognised as made by the same job."""
        own = {parameter.name: getattr(self, parameter.name) for parameter in self.parameters}
        return {"evidence": "both", "marker": _MARKER.default, **own}


@dataclass(frozen=True, slots=True)
class _OneChannel(Nomads2018):
    """NOMADS 2018 under the name, roles and settings that ``evidence=one-channel`` has always had."""

    name = NomadsUnsupervised.name
    roles = ROLES

    @property
    def settings(self) -> Mapping[str, int | float | str]:
        return {**NomadsUnsupervised().settings, "evidence": "one-channel", "marker": self.marker}


_EVIDENCE = Parameter(
    "evidence", "both", "", "both markers, or one-channel: what nomads-2018 finds", ("both", "one-channel")
)
_MARKER = replace(Nomads2018.parameters[0], help="side of the marker that detects with evidence=one-channel")


def build(evidence: str = "both", marker: str = "presynaptic", **values: Any) -> Pipeline:
    """Build this pipeline; with ``evidence=one-channel``, as earlier commands spell it, NOMADS 2018 under its name."""
    _EVIDENCE.check(evidence)
    other = (_MARKER,) if evidence == "both" else PARAMETERS
    given = {_MARKER.name: marker, **values}
    ignored = [p.name for p in other if given.get(p.name, p.default) != p.default]
    if ignored:
        raise UsageError(
            f"{', '.join(ignored)} with evidence={evidence}",
            f"that has no effect (one-channel keeps objects of more than {LARGEST_DROPPED} voxels)",
            f"Leave out {', '.join(ignored)}, or choose the other evidence",
        )
    return NomadsUnsupervised(**values) if evidence == "both" else _OneChannel(marker)


build.parameters = (_EVIDENCE, _MARKER, *PARAMETERS)  # type: ignore[attr-defined] # a function declares by attributes
