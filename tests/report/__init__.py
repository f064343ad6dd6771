"""Tests of the report: its page, its figures, its numbers."""
