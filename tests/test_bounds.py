"""What a shared store holds takes no more memory than a block: what is larger is refused before it is read."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import blosc
import numpy as np
import pytest
from numpy.typing import NDArray

from nd_synapse.detection import blocks
from nd_synapse.errors import DataError
from tests.peak import MIB, run_alone


class TestShelf:
    """Anybody who may write to a shelf could have left anything on it."""

    SETUP = """
from nd_synapse.geometry import Box
from nd_synapse.detection.exchange import Exchange
from nd_synapse.blocks.store import Store

class Shelf:
    def names(self, kind):
        return {"0_0_0.npz", "0_0_0.json"}

    def get(self, kind, name, most_bytes):
        with (folder / "thing").open("rb") as file:
            body = file.read(most_bytes + 1)
        return None if len(body) > most_bytes else body

exchange = Exchange(Store(folder / "store"), Shelf(), 2**20)
block = Box.of_shape((1, 1, 1))
"""
    FETCH = "exchange.unfinished(('parts',), [block], wanted=True)"

    def test_what_is_larger_than_a_run_leaves_is_refused(self, tmp_path: Path) -> None:
        with (tmp_path / "thing").open("wb") as file:
            file.truncate(2**33)
        ended = run_alone(self.SETUP, self.FETCH, tmp_path)
        assert ended.error.startswith("StorageError: parts/0_0_0 on the shelf: it has more than the 1,064,960 bytes")
        assert ended.grown_bytes < 16 * MIB

    def test_what_unpacks_to_more_than_a_block_has_is_refused(self, tmp_path: Path) -> None:
        body = blosc.compress(bytes(512 * MIB), typesize=4)
        (tmp_path / "thing").write_bytes(len(body).to_bytes(8, "little") + body)
        assert len(body) < 4 * MIB
        setup = self.SETUP.replace("2**20)", "2**24)")
        ended = run_alone(setup, f"{self.FETCH}\nStore(folder / 'store').load('parts', '0_0_0')", tmp_path)
        assert "it unpacks to 536,870,912 bytes, more than 16,777,216" in ended.error
        assert ended.grown_bytes < 32 * MIB

    def test_arrays_that_are_packed_once_more_are_refused(self, tmp_path: Path) -> None:
        """NumPy would unpack them, whatever Blosc announced."""
        archive = io.BytesIO()
        np.savez_compressed(archive, np.zeros(512 * MIB, np.uint8), names=np.array(["a"]))
        (tmp_path / "parts").mkdir()
        (tmp_path / "parts" / "a.npz").write_bytes(blosc.compress(archive.getvalue(), typesize=4))
        load = "Store(folder).load('parts', 'a')"
        ended = run_alone("from nd_synapse.blocks.store import Store", load, tmp_path)
        assert "its arrays are larger than they can be" in ended.error
        assert ended.grown_bytes < 32 * MIB

    def test_an_array_that_announces_more_than_it_has_is_refused(self, tmp_path: Path) -> None:
        header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776,), }"
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr("arr_0.npy", header.ljust(127) + b"\n")
            packed.writestr("names.npy", _npy(np.array(["a"])))
        (tmp_path / "parts").mkdir()
        (tmp_path / "parts" / "a.npz").write_bytes(blosc.compress(archive.getvalue(), typesize=4))
        ended = run_alone("from nd_synapse.blocks.store import Store", "Store(folder).load('parts', 'a')", tmp_path)
        assert "the file is damaged" in ended.error

    def test_counts_of_more_levels_than_memory_has_are_refused(self) -> None:
        counts = {"places a": np.array([2**40]), "counts a": np.array([1])}
        with pytest.raises(DataError, match="levels to count"):
            blocks.add_all_counts({}, counts)


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
