"""Whole jobs on which things go wrong: see tests/faults/__main__.py for the table of all faults."""
