"""One detection: a pipeline run over a box, block by block, into masks and a table of objects."""

from nd_synapse.detection.on_disk import detect
from nd_synapse.detection.outcome import Detection, FailedBlock
from nd_synapse.detection.plan import Plan

__all__ = ["Detection", "FailedBlock", "Plan", "detect"]
