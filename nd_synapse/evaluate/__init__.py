"""How good a pipeline is: its detections against truth, its scores against expert-labelled synaptograms."""

from nd_synapse.evaluate.evaluation import Evaluation, evaluate_labels, evaluate_points
from nd_synapse.evaluate.synapses import Extent, Synapses
from nd_synapse.evaluate.synaptograms import SynaptogramEvaluation, Synaptograms, evaluate_synaptograms

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
