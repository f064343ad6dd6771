"""One detection: a pipeline run over a box, block by block, into masks and a table of objects."""
