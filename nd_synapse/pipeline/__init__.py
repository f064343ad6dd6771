"""The contract of a pipeline, its registry, channels by role, a plain function as a pipeline."""
