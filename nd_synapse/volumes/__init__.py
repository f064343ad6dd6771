"""Volumes: the contracts of what voxels are read from and masks are written to."""
