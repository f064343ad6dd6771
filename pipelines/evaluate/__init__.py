"""How good a pipeline is: its detections against truth, its scores against expert-labelled synaptograms.

It detects nothing itself, and no pipeline imports it. ``python -m pipelines.evaluate`` is its command line.
"""

from pipelines.evaluate.evaluation import Evaluation, evaluate_labels, evaluate_points
from pipelines.evaluate.synapses import Extent, Synapses
from pipelines.evaluate.synaptograms import SynaptogramEvaluation, Synaptograms, evaluate_synaptograms

__all__ = [
    "Evaluation",
    "Extent",
    "Synapses",
    "SynaptogramEvaluation",
    "Synaptograms",
    "evaluate_labels",
    "evaluate_points",
    "evaluate_synaptograms",
]
