"""One detection: a pipeline run over a box, block by block, into masks and a table of objects on disk.

It reads from any `source.Source`, and neither delivers nor draws what it finds.
"""

from nd_synapse.detection.outcome import Detection, FailedBlock
from nd_synapse.detection.passes import detect
from nd_synapse.detection.plan import Plan

__all__ = ["Detection", "FailedBlock", "Plan", "detect"]
