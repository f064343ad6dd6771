"""Measurements: each prints its figures and how it got them; none is part of a job."""
