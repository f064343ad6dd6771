"""The detectors: one module a detector, and their numerics, written against `nd_synapse.pipeline.contract`."""
