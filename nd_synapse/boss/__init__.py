"""What speaks to BOSS: the connection, the translation of its errors, its catalog, its voxels, and where masks go.

Nobody imports it but its two doors: `NeuroDataResource` reads, `nd_boss` pushes.
"""
