"""What is parsed takes no more memory than what it is for: files that unpack, or go on, without end are refused."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import math
import os
import struct
import zipfile
import zlib
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import blosc
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from nd_synapse.local_boss.faults import FaultPlan
from numpy.typing import NDArray
from PIL import Image
from tifffile._imagecodecs import packbits_decode
from zarr.codecs import numcodecs as numcodecs_3

from nd_synapse.detection import blocks
from nd_synapse.errors import DataError, UsageError
from nd_synapse.evaluate.files import read_volume
from nd_synapse.files import tiff, unpacking
from nd_synapse.local_boss.stacks import open_stack
from tests.hostile_files import tiff_of
from tests.peak import MIB, run_alone
from tests.small_run import RUN

READERS = {
    "truth": ("from pipelines.evaluate.files import read_table", "read_table(folder / 'table.csv')"),
    "report": ("from pymeda_driver import read_table", "read_table(folder / 'table.csv')"),
    "sample": ("from local_boss.sample import _read_truth", "_read_truth(folder / 'table.csv')"),
    "verify": (
        "from types import SimpleNamespace; from verification import _table",
        "_table(folder, SimpleNamespace(masks={'All': ''}, voxels={}, synapses=0, box=None), {})",
    ),
}


class TestTables:
    """Rows are read one at a time, and have an end."""

    @pytest.mark.parametrize("reader", READERS)
    def test_a_line_without_end_is_refused(self, reader: str, tmp_path: Path) -> None:
        for name in ("table.csv", "synapses.csv"):
            with (tmp_path / name).open("wb") as file:
                file.write(b"a,b\n")
                file.truncate(6 * 2**30)
        ended = run_alone(*READERS[reader], tmp_path)
        assert "line 2 has more than" in ended.error
        assert ended.grown_bytes < 32 * MIB

    @pytest.mark.parametrize("reader", READERS)
    def test_a_row_whose_cells_go_on_over_many_lines_is_refused(self, reader: str, tmp_path: Path) -> None:
        for name in ("table.csv", "synapses.csv"):
            (tmp_path / name).write_bytes(b"a,b\n" + b'"\n",' * 50_000_000)
        ended = run_alone(*READERS[reader], tmp_path)
        assert "has more than 1,048,576 characters" in ended.error
        assert ended.grown_bytes < 64 * MIB

    def test_more_columns_than_tables_have_are_refused(self, tmp_path: Path) -> None:
        """Both readers looked for each heading among all of them."""
        (tmp_path / "table.csv").write_text(",".join(map(str, range(100_000))))
        for reader in ("truth", "report"):
            ended = run_alone(*READERS[reader], tmp_path)
            assert "has 100,000 cells, more than 16,384" in ended.error

    @pytest.mark.slow
    def test_a_table_of_many_cells_is_refused_before_all_are_there(self, tmp_path: Path) -> None:
        (tmp_path / "table.csv").write_bytes((b"10," * 9_999 + b"10\n") * 6_000)
        names = ",".join(f"c{n}" for n in range(10_000))
        body = (tmp_path / "table.csv").read_bytes()
        (tmp_path / "table.csv").write_bytes(names.encode() + b"\n" + body)
        ended = run_alone(*READERS["truth"], tmp_path, limit_bytes=6 * 2**30)
        assert "more than 4,000 rows of 10,000 cells" in ended.error
        text = "from nd_synapse.report import entry; entry._MOST_NUMBERS = 10_000_000\nfrom pymeda_driver import read_table"
        ended = run_alone(text, "read_table(folder / 'table.csv')", tmp_path)
        assert "it has more than 10,000,000 cells" in ended.error
        assert ended.grown_bytes < 500 * MIB

    def test_many_columns_are_compared_in_no_time(self, tmp_path: Path) -> None:
        (tmp_path / "table.csv").write_text(",".join(map(str, range(16_384))) + "\n")
        setup = "import time\n" + READERS["truth"][0]
        timed = f"start = time.process_time()\n{READERS['truth'][1]}\nassert time.process_time() - start < 1"
        assert run_alone(setup, timed, tmp_path).error == ""


class TestShelf:
    """Anybody who may write to a shelf could have left anything on it."""

    SETUP = """
import json
from box import Box
from detection.exchange import Exchange
from detection.store import Store

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
        ended = run_alone(self.SETUP, "exchange.holes('parts', 'detect', [block])", tmp_path)
        assert ended.error.startswith("StorageError: holes-parts/0_0_0.json on the shelf: it has more than")
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
        ended = run_alone("from detection.store import Store", load, tmp_path)
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
        ended = run_alone("from detection.store import Store", "Store(folder).load('parts', 'a')", tmp_path)
        assert "the file is damaged" in ended.error

    def test_counts_of_more_levels_than_memory_has_are_refused(self) -> None:
        counts = {"places a": np.array([2**40]), "counts a": np.array([1])}
        with pytest.raises(DataError, match="levels to count"):
            blocks.add_all_counts({}, counts)

    @pytest.mark.parametrize("body", [b"", b"[" * 100_000, b"[]", b'{"reason": 1}', b"\xff"])
    def test_a_hole_that_is_none_is_said_to_be(self, tmp_path: Path, body: bytes) -> None:
        (tmp_path / "thing").write_bytes(body)
        ended = run_alone(self.SETUP, "exchange.holes('parts', 'detect', [block])", tmp_path)
        assert ended.error.startswith("StorageError: holes-parts/0_0_0.json on the shelf: it is no hole of ours")


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


class TestJson:
    """JSON takes many times its size when it is read."""

    @pytest.mark.parametrize("piece", ["[],", '{"a":{}},', "€"])
    def test_a_run_json_that_grows_when_it_is_read_is_refused(self, tmp_path: Path, piece: str) -> None:
        body = ("[" + piece * 20_000_000 + "1]").encode()
        (tmp_path / "run.json").write_bytes(body)
        ended = run_alone("from run_file import read_run_file", "read_run_file(folder)", tmp_path)
        assert ended.error.startswith("DataError")
        assert ended.grown_bytes < len(body) + 64 * MIB

    def test_that_of_a_run_with_many_holes_is_read_in_little_more_memory_than_it_has(self, tmp_path: Path) -> None:
        traceback = "\n".join(
            f'  File "/a/b/c{n}.py", line {n}, in d\n    e(f, g, [h])\n    ^^^^^^^' for n in range(16)
        )
        failed_block = {
            "box": "z 0:16 y 0:512 x 0:512",
            "step": "detect",
            "reason": "ValueError: x",
            "traceback": traceback,
        }
        (tmp_path / "run.json").write_text(json.dumps({**RUN, "failed_blocks": [failed_block] * 40_000}))
        read = "assert len(read_run_file(folder).holes) == 40_000"
        ended = run_alone("from run_file import read_run_file", read, tmp_path)
        assert ended.error == ""
        assert ended.grown_bytes < 5 * (tmp_path / "run.json").stat().st_size

    def test_prices_and_notes_without_end_are_refused(self, tmp_path: Path) -> None:
        for name in ("prices.json", "block_size.json"):
            with (tmp_path / name).open("wb") as file:
                file.truncate(6 * 2**30)
        ended = run_alone("from batch.prices import read_prices", "read_prices(folder / 'prices.json')", tmp_path)
        assert "the file has more than 1,048,576 bytes" in ended.error
        setup = "from detection.plan import remembered_block_size"
        assert run_alone(setup, "assert remembered_block_size(folder) is None", tmp_path).grown_bytes < 8 * MIB

    def test_a_fault_plan_without_end_is_refused(self) -> None:
        with pytest.raises(UsageError, match="more than 1,048,576 characters"):
            FaultPlan.from_json(" " * 2**21)


STACKS = {
    "ingest": (
        "from local_boss.stacks import open_stack",
        "open_stack([folder / 'a.tif']).read(0, 1)",
    ),
    "ingest of files": (
        "import shutil\nfrom local_boss.stacks import open_stack\nshutil.copy(folder / 'a.tif', folder / 'a_1.tif')\n"
        "shutil.copy(folder / 'a.tif', folder / 'a_2.tif')",
        "open_stack([folder / 'a_1.tif', folder / 'a_2.tif']).read(0, 1)",
    ),
    "evaluation": (
        "import tifffile\nfrom pipelines.evaluate.files import read_volume",
        "read_volume(folder / 'a.tif')",
    ),
    "verify": ("from mask_files import tiff_slices", "list(tiff_slices(folder / 'a.tif', (1, 16, 16)))"),
}


def deflated(size: int) -> bytes:
    packer = zlib.compressobj(9)
    pieces = [packer.compress(bytes(MIB)) for _ in range(size // MIB)]
    return b"".join(pieces) + packer.flush()


class TestTiff:
    """What a strip unpacks to is counted before it is unpacked."""

    @pytest.mark.parametrize("size", [256 * MIB, 60 * MIB])
    @pytest.mark.parametrize("reader", STACKS)
    def test_a_strip_that_inflates_to_many_times_its_pixels_is_refused(
        self, reader: str, size: int, tmp_path: Path
    ) -> None:
        tiff_of(tmp_path / "a.tif", deflated(size), 8)
        ended = run_alone(*STACKS[reader], tmp_path, limit_bytes=6 * 2**30)
        assert ended.error.startswith("DataError")
        assert ended.grown_bytes < 32 * MIB

    @pytest.mark.parametrize("compression", [32773, 34925, 32946])
    @pytest.mark.parametrize("reader", ["ingest", "evaluation"])
    def test_whatever_it_is_packed_with(self, reader: str, compression: int, tmp_path: Path) -> None:
        # a strip that has itself many times the bytes of its pixels is refused for that
        inner = {
            32773: b"\x81\0" * 30_000,
            34925: lzma.compress(bytes(128 * MIB), preset=0),
            32946: deflated(64 * MIB),
        }[compression]
        tiff_of(tmp_path / "a.tif", inner, compression)
        ended = run_alone(*STACKS[reader], tmp_path)
        assert "DataError" in ended.error
        assert "in the file" in ended.error or "unpacks to more than" in ended.error
        assert ended.grown_bytes < 64 * MIB

    @pytest.mark.parametrize("reader", ["ingest", "evaluation"])
    def test_tiles_and_tags_that_no_image_has_are_refused(self, reader: str, tmp_path: Path) -> None:
        large = {322: (4, 1, 30_000), 323: (4, 1, 30_000), 324: (4, 1, 512), 325: (4, 1, 100)}
        tiff_of(tmp_path / "a.tif", zlib.compress(bytes(60_000)).ljust(100, b"\0"), 8, large)
        ended = run_alone(*STACKS[reader], tmp_path)
        assert "its tiles of 900,000,000 bytes are larger than its slices of 256" in ended.error
        for code, kind in ((270, 2), (273, 4), (65000, 1)):
            tiff_of(tmp_path / "a.tif", zlib.compress(bytes(256)), 8, {code: (kind, 2**29, 512)})
            with (tmp_path / "a.tif").open("r+b") as file:
                file.truncate(3 * 2**30)
            ended = run_alone(*STACKS[reader], tmp_path)
            assert f"tag {code} of its page 1 has 536,870,912 values" in ended.error
            assert ended.grown_bytes < 16 * MIB

    def test_pages_that_share_their_large_tags_are_refused(self, tmp_path: Path) -> None:
        tiff_of(tmp_path / "a.tif", bytes(4 * MIB), 1, {270: (2, 4_000_000, 512)})
        body = (tmp_path / "a.tif").read_bytes()
        pages, at = [], len(body)
        first = 8 + 2 + 12 * 10
        for number in range(1, 20):
            page = body[8 : first + 4]
            pages.append(page[:-4] + struct.pack("<I", at + number * len(page) if number < 19 else 0))
        body = body[:first] + struct.pack("<I", at) + body[first + 4 :]
        (tmp_path / "a.tif").write_bytes(body + b"".join(pages))
        ended = run_alone(*STACKS["evaluation"], tmp_path)
        assert "share tags of" in ended.error

    @pytest.mark.parametrize("compression", [5, 7, 50000, 33003, 50001, 34887])
    def test_a_codec_that_cannot_be_bounded_here_is_named(self, compression: int, tmp_path: Path) -> None:
        tiff_of(tmp_path / "a.tif", b"abc", compression)
        for reader in ("ingest", "evaluation"):
            ended = run_alone(*STACKS[reader], tmp_path)
            assert "imagecodecs" in ended.error or "cannot be told before" in ended.error

    def test_the_frame_of_a_jpeg_says_how_large_it_is(self) -> None:
        for shape in ((20, 31), (17, 200, 3)):
            file = io.BytesIO()
            Image.fromarray(np.zeros(shape, np.uint8)).save(file, "jpeg")
            assert tiff._jpeg_bytes(file.getvalue()) == math.prod(shape)
        with pytest.raises(ValueError, match="no frame"):
            tiff._jpeg_bytes(b"\xff\xd8\xff\xd9")

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"compression": "zlib"},
            {"compression": "zlib", "predictor": True},
            {"compression": "zlib", "rowsperstrip": 7},
            {"compression": "zlib", "tile": (64, 48)},
            {"compression": "zlib", "tile": (1024, 1024)},
            {"compression": "zlib", "bigtiff": True, "byteorder": ">"},
            {"compression": "lzma"},
            {"compression": "lzma", "compressionargs": {"level": 9}},
            {"tile": (64, 64)},
            {"rowsperstrip": 3},
            {"imagej": True, "metadata": {"axes": "ZYX"}},
            {"ome": True, "metadata": {"axes": "ZYX"}},
            {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "zlib", "predictor": True},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("kind", ["zeros", "noise"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_stacks_as_programs_write_them_are_read(
        self, tmp_path: Path, options: dict[str, Any], kind: str, dtype: type[np.unsignedinteger[Any]]
    ) -> None:
        shape = (3, 130, 170)
        voxels = np.zeros(shape, dtype)
        if kind == "noise":
            voxels = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, voxels, photometric="minisblack", **options)
        assert np.array_equal(read_volume(path), voxels)
        assert np.array_equal(open_stack([path]).read(0, 3), voxels)

    def test_a_mask_of_bits_and_a_strip_of_all_rows_are_read(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        bits = np.random.default_rng(2).random((37, 51)) < 0.5
        Image.fromarray(bits).save(path, compression="tiff_adobe_deflate")
        assert np.array_equal(read_volume(path)[0], bits)
        grey = np.random.default_rng(2).integers(0, 256, (300, 200)).astype(np.uint8)
        for compression in ("tiff_adobe_deflate", "packbits", "tiff_deflate"):
            Image.fromarray(grey).save(path, compression=compression, tiffinfo={278: 2**31 - 1})
            assert np.array_equal(read_volume(path)[0], grey)
            assert np.array_equal(open_stack([path]).read(0, 1)[0], grey)


@given(pieces=st.lists(st.binary(max_size=300), max_size=5), cut=st.integers(1, 400), data=st.data())
def test_for_any_bytes_what_they_unpack_to_is_counted(pieces: list[bytes], cut: int, data: st.DataObject) -> None:
    plain = b"".join(piece * 700 for piece in pieces)
    most = data.draw(st.integers(0, 2 * len(plain) + 1))
    packed = {
        unpacking.deflate_bytes: zlib.compress(plain),
        unpacking.lzma_bytes: lzma.compress(plain, preset=0),
        unpacking.bzip2_bytes: bz2.compress(plain),
        partial(unpacking.deflate_bytes, window=47): gzip.compress(plain) + gzip.compress(plain),
    }
    for count, body in packed.items():
        length = len(plain) * (1 + isinstance(count, partial))
        found = count([body[at : at + cut] for at in range(0, len(body), cut)], most)
        assert found == length if length <= most else found > most


@given(body=st.binary(max_size=600), cut=st.integers(1, 40))
def test_for_any_packbits_as_much_is_counted_as_tifffile_unpacks(body: bytes, cut: int) -> None:
    """But for a last run that is cut short, of which it unpacks what is there."""
    counted = unpacking.packbits_bytes([body[at : at + cut] for at in range(0, len(body), cut)], 10**9)
    assert counted - 128 <= len(packbits_decode(body)) <= counted


ARRAYS = {
    "ingest": ("from local_boss.stacks import open_stack", "open_stack([folder / 'a.zarr']).read(0, 1)"),
    "evaluation": (
        "import zarr_arrays\nfrom pipelines.evaluate.files import read_volume",
        "read_volume(folder / 'a.zarr')",
    ),
}


def zarr_of(path: Path, **options: Any) -> None:
    """Write the metadata of an array, (1, 4, 4) unless it says otherwise."""
    given = {"shape": (1, 4, 4), "chunks": (1, 4, 4), "dtype": "uint8", **options}
    zarr.create_array(path, **given)


@pytest.mark.parametrize("reader", ARRAYS)
class TestZarr:
    """Chunks are no larger than their array needs, on disk, in the metadata, and unpacked."""

    @pytest.mark.parametrize("options", [{}, {"zarr_format": 2}, {"shards": (1, 40_000, 40_000)}], ids=str)
    def test_a_chunk_far_larger_than_its_array_is_refused(
        self, reader: str, options: dict[str, Any], tmp_path: Path
    ) -> None:
        inner = (1, 4_000, 4_000) if "shards" in options else (1, 40_000, 40_000)
        zarr_of(tmp_path / "a.zarr", chunks=inner, **options)
        ended = run_alone(*ARRAYS[reader], tmp_path)
        assert "have 1,600,000,000 bytes, of which the array has 16" in ended.error
        assert ended.grown_bytes < 32 * MIB

    @pytest.mark.filterwarnings("ignore:Numcodecs codecs")
    @pytest.mark.parametrize("kind", ["gzip", "zlib", "zstd", "blosc", "lz4", "bz2", "lzma"])
    @pytest.mark.parametrize("form", [2, 3])
    def test_a_chunk_that_unpacks_to_many_times_its_voxels_is_refused(
        self, reader: str, form: int, kind: str, tmp_path: Path
    ) -> None:
        codec = numcodecs.get_codec({"id": kind})
        plain = {"zarr_format": form, "compressors": codec}
        if form == 3:
            in_3 = {"gzip": zarr.codecs.GzipCodec(), "zstd": zarr.codecs.ZstdCodec(), "blosc": zarr.codecs.BloscCodec()}
            plain["compressors"] = in_3.get(kind) or getattr(numcodecs_3, kind.upper().replace("ZLIB", "Zlib"))()
        zarr_of(tmp_path / "a.zarr", **plain)
        chunk = tmp_path / "a.zarr" / ("0.0.0" if form == 2 else "c/0/0/0")
        chunk.parent.mkdir(parents=True, exist_ok=True)
        packed = bytes(codec.encode(np.zeros(100 * MIB, np.uint8)))
        chunk.write_bytes(packed)
        ended = run_alone(*ARRAYS[reader], tmp_path)
        assert "unpacks to more than its 16" in ended.error or "bytes, more than 65,568" in ended.error
        assert ended.grown_bytes < 32 * MIB

    @pytest.mark.parametrize("name", ["zarr.json", "c/0/0/0", ".zattrs"])
    def test_a_file_without_end_is_refused(self, reader: str, name: str, tmp_path: Path) -> None:
        zarr_of(tmp_path / "a.zarr", zarr_format=2 if name == ".zattrs" else 3)
        path = tmp_path / "a.zarr" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.truncate(6 * 2**30)
        ended = run_alone(*ARRAYS[reader], tmp_path)
        assert f"{name}: it has 6,442,450,944 bytes, more than" in ended.error
        assert ended.grown_bytes < 32 * MIB

    def test_a_pipe_in_the_place_of_a_chunk_is_not_waited_for(self, reader: str, tmp_path: Path) -> None:
        zarr_of(tmp_path / "a.zarr")
        (tmp_path / "a.zarr" / "c" / "0" / "0").mkdir(parents=True)
        os.mkfifo(tmp_path / "a.zarr" / "c" / "0" / "0" / "0")
        assert "it is no file" in run_alone(*ARRAYS[reader], tmp_path).error

    def test_more_chunks_than_can_be_listed_are_refused(self, reader: str, tmp_path: Path) -> None:
        zarr_of(tmp_path / "a.zarr", shape=(1, 10_000, 10_000), chunks=(1, 1, 1))
        ended = run_alone(*ARRAYS[reader], tmp_path)
        assert "are too many to be read" in ended.error
        assert ended.grown_bytes < 32 * MIB

    def test_a_shard_whose_chunk_unpacks_to_many_times_its_voxels_is_refused(self, reader: str, tmp_path: Path) -> None:
        packer = zarr.codecs.GzipCodec()
        zarr_of(tmp_path / "a.zarr", shape=(1, 8, 8), shards=(1, 8, 8), compressors=packer)
        body = gzip.compress(bytes(200 * MIB), 9)[:60_000]
        index = struct.pack("<QQ", 0, len(body)) * 4
        chunk = tmp_path / "a.zarr" / "c/0/0/0"
        chunk.parent.mkdir(parents=True)
        chunk.write_bytes(body + bytes(numcodecs.CRC32C().encode(index)))
        ended = run_alone(*ARRAYS[reader], tmp_path)
        assert "unpacks to more than its 16" in ended.error
        assert ended.grown_bytes < 32 * MIB


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("kind", ["none", "default", "gzip", "blosc", "zstd", "sharded", "transposed"])
@pytest.mark.parametrize("shape", [(3, 70, 90), (1, 4, 4)])
def test_zarr_arrays_as_programs_write_them_are_read(tmp_path: Path, form: int, kind: str, shape: Any) -> None:
    if form == 2 and kind in ("sharded", "transposed"):
        return
    voxels = np.random.default_rng(4).integers(0, 9, shape).astype(np.uint16)
    options: dict[str, Any] = {"chunks": (2, 64, 64)}
    if kind == "none":
        options["compressors"] = None
    elif kind == "sharded":
        options["shards"] = (4, 128, 128)
    elif kind == "transposed":
        options["filters"] = [zarr.codecs.TransposeCodec(order=(2, 1, 0))]
    elif kind != "default":
        codec = {"gzip": zarr.codecs.GzipCodec, "blosc": zarr.codecs.BloscCodec, "zstd": zarr.codecs.ZstdCodec}[kind]
        options["compressors"] = numcodecs.get_codec({"id": kind}) if form == 2 else codec()
    array = zarr.create_array(tmp_path / "a.zarr", shape=shape, dtype="uint16", zarr_format=form, **options)
    array[...] = voxels
    assert np.array_equal(read_volume(tmp_path / "a.zarr"), voxels)
    assert np.array_equal(open_stack([tmp_path / "a.zarr"]).read(0, shape[0]), voxels)


@given(plain=st.binary(max_size=3000), times=st.integers(0, 300), cut=st.integers(0, 30))
def test_for_any_bytes_zstd_tells_what_it_unpacks_to(plain: bytes, times: int, cut: int) -> None:
    packed = bytes(numcodecs.Zstd().encode(plain * times))
    assert unpacking.zstd_bytes(packed) == (len(plain) * times, True)
    assert unpacking.zstd_bytes(packed + b"\x50\x2a\x4d\x18\x02\0\0\0ab" + packed)[0] == 2 * len(plain) * times
    with suppress(ValueError):
        unpacking.zstd_bytes(packed[:-cut] if cut else packed[1:])


def test_a_header_of_npy_without_end_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        file.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 16))
        file.truncate(2**32)
    setup = "from local_boss.stacks import open_stack"
    ended = run_alone(setup, "open_stack([folder / 'a.npy'])", tmp_path, limit_bytes=8 * 2**30)
    assert "its header is longer than that of any array" in ended.error
    assert ended.grown_bytes < 16 * MIB
