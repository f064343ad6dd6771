"""A data folder: its catalog and its voxels, opened together."""

from __future__ import annotations

from pathlib import Path

from nd_synapse.errors import StorageError, few
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
            self.voxels = VoxelStore(data)
            stored = self.voxels.channel_ids()  # before the catalog, in which a channel is made before its voxels
            self.catalog = Catalog(data, strict=strict)
            unknown = stored - self.catalog.channel_ids()
            if unknown:
                found = f"voxels/ has channels that catalog.sqlite has not: {few(sorted(map(str, unknown)))}"
                remedy = "Put back the catalog.sqlite that belongs to these voxels, or give another data folder"
                raise StorageError(f"data folder {data}", found, remedy)  # noqa: TRY301 - translated is what is below
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
