"""One detection: a pipeline run over a box, block by block, into masks and a table of objects on disk.

It reads from any `source.Source`, and neither delivers nor draws what it finds.
"""

from detection.outcome import Detection, Hole
from detection.passes import detect
from detection.plan import DEFAULT_BLOCK_SIZE, DEFAULT_PULLS, Plan

__all__ = ["DEFAULT_BLOCK_SIZE", "DEFAULT_PULLS", "Detection", "Hole", "Plan", "detect"]
