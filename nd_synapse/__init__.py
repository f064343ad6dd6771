"""Finds synapses in array-tomography volumes, block by block.

::

    import nd_synapse

    found = nd_synapse.detect({"Synapsin": synapsin, "PSD95": psd95}, voxel_size_nm=(70, 100, 100))
    found.mask, found.labels, found.table
"""

from typing import TYPE_CHECKING, Any

from nd_synapse.version import __version__

if TYPE_CHECKING:
    from nd_synapse.job.library import Result, detect

__all__ = ["Result", "__version__", "detect"]


def __getattr__(name: str) -> Any:
    """Import what needs large libraries when it is asked for."""
    if name in ("Result", "detect"):
        from nd_synapse.job import library

        return getattr(library, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
