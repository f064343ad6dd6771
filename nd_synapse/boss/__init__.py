"""The BOSS service: connection, errors, names, voxels, and the push of masks; `intern` is imported here only."""
