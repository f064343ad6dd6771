"""A data folder: its catalog and its voxels, opened together."""

from __future__ import annotations

from pathlib import Path

from nd_synapse.errors import StorageError, few
from nd_synapse.local_boss.catalog import CATALOG_FILE, Catalog
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
            self.voxels = VoxelStore(data)
            stored = self.voxels.channel_ids()  # before the catalog, in which a channel is made before its voxels
            if stored and not (data / CATALOG_FILE).exists():
                raise _without_catalog(data, stored)  # and no file is made in its place
            self.catalog = Catalog(data, strict=strict)
            unknown = stored - self.catalog.channel_ids()
            if unknown:
                self.close()
                raise _without_catalog(data, unknown)
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


def _without_catalog(data: Path, unknown: set[int]) -> StorageError:
    found = f"voxels/ has channels that {CATALOG_FILE} has not: {few(sorted(map(str, unknown)))}"
    remedy = f"Put back the {CATALOG_FILE} that belongs to these voxels, or give another data folder"
    return StorageError(f"data folder {data}", found, remedy)
