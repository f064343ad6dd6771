"""A data folder: its catalog and its voxels, opened together."""

from __future__ import annotations

from pathlib import Path

from nd_synapse.errors import StorageError
from nd_synapse.local_boss.catalog import Catalog
from nd_synapse.local_boss.voxels import VoxelStore

__all__ = ["Boss"]


class Boss:
    """The catalog and the voxels of a data folder on a local disk, which is made if it is missing.

    Several threads and processes may open it at once. `strict` follows the real server where the local one
    deliberately differs, see ``docs/local-boss.md``.
    """

    def __init__(self, data: Path, strict: bool = False) -> None:
        try:
            data.mkdir(parents=True, exist_ok=True)
            self.catalog = Catalog(data, strict=strict)
            self.voxels = VoxelStore(data)
        except StorageError:
            raise
        except OSError as error:
            remedy = "Give a folder on a local disk that you may write to"
            raise StorageError(f"data folder {data}", str(error), remedy) from error
        self.data = data
        self.strict = strict

    def close(self) -> None:
        """Close the database."""
        self.catalog.close()
