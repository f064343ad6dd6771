"""Odd input: whatever a user or a service gives ends in a result or in an error of ours, in three parts."""
