"""Finds synapses in array-tomography volumes, block by block; everything inside of the job is here."""

__version__ = "0.2.0"
