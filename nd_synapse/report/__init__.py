"""The PyMeda report: a table of synapses becomes one page of figures.

It detects nothing and asks no service; `pymeda_driver` is its public door.
"""
