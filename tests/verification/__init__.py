"""Results checked again: what is intact, and every way in which it may not be."""
