"""Fuzzing: whatever comes in ends in a result or in an error of ours, in three parts, and in nothing else.

``python -m tests.fuzz --cases 100000`` runs as many cases as one likes and prints the counts.
"""
