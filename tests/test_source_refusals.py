"""What cannot be read is refused in one sentence, before the first voxel."""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import driver
from nd_synapse import responses
from nd_synapse.errors import PermissionDeniedError, RangeError, UnavailableError, UnknownNameError, UsageError
from nd_synapse.geometry import Box
from nd_synapse.sources.location import Location
from nd_synapse.sources.source import open_source
from tests.fixtures_s3 import S3Server
from tests.served_volumes import CHANNELS, PART, SHAPE, refusal, served
from tests.volumes_on_disk import write


def _zarr(path: Path, dtype: Any, **attributes: Any) -> None:
    array = zarr.create_array(path, shape=(4, 8, 8), dtype=dtype, chunks=(4, 8, 8), attributes=attributes)
    array[:] = 1


def _two_shapes(path: Path) -> None:
    path.mkdir()
    tifffile.imwrite(path / "PSD95.tif", np.ones((5, 8, 8), np.uint8))
    tifffile.imwrite(path / "SYNAPSIN.tif", np.ones((6, 8, 8), np.uint8))


def _gap(path: Path) -> None:
    write("slices", path, CHANNELS)
    (path / "PSD95_z03.tif").unlink()


def _several_numbers(path: Path) -> None:
    path.mkdir()
    for name in ("s1_c1", "s1_c2", "s2_c1", "s2_c2"):
        tifffile.imwrite(path / f"{name}.tif", np.ones((8, 8), np.uint8))


def _ome05(path: Path) -> None:
    write("ome05.zarr", path, CHANNELS)


REFUSED = {
    "float": (lambda path: _zarr(path, np.float32), "", 65, "it holds float32, not whole numbers"),
    "uint32": (lambda path: _zarr(path, np.uint32), "", 65, r"its channels are a \(uint32\), and images are"),
    "two-shapes": (_two_shapes, "", 65, r"PSD95 has the shape \(5, 8, 8\), and SYNAPSIN \(6, 8, 8\)"),
    "no-voxel-size": (lambda path: _zarr(path, np.uint8), "", 2, "its metadata say .*Give --voxel-size-nm Z,Y,X"),
    "other-voxel-size": (_ome05, "--voxel-size-nm 50,100,100", 65, r"says 70,100,100 nm \(z, y, x\)"),
    "no-such-level": (_ome05, "--resolution 2", 2, "it has the levels 0 to 1"),
    "level-of-tiff": (partial(write, "slices", channels=CHANNELS), "--resolution 1", 2, "a TIFF has no levels"),
    "range": (_ome05, "--z-range 0,7", 2, "the volume has z 0,6"),
    "nothing-there": (lambda path: None, "", 2, "there is no such file"),
    "empty-folder": (Path.mkdir, "", 65, "it holds no image volume"),
    "missing-slice": (_gap, "", 2, "PSD95_z02.tif and PSD95_z04.tif: slices are missing"),
    "several-numbers": (_several_numbers, "", 2, "one of them may count channels"),
    "name": (_ome05, "--name a/b", 2, "a name has letters"),
    "two-volumes": (_ome05, "--host a.b", 2, "each names a volume"),
}


class TestRefusals:
    """What cannot be read is refused in one sentence, before the first voxel."""

    @pytest.mark.parametrize(("make", "words", "code", "text"), REFUSED.values(), ids=REFUSED)
    def test_what_cannot_be_read_has_a_reason_and_a_code(
        self, make: Any, words: str, code: int, text: str, tmp_path: Path
    ) -> None:
        make(tmp_path / "a")
        found, line = refusal(str(tmp_path / "a"), *words.split(), path=tmp_path)
        assert found == code
        assert re.search(text, line)

    @pytest.mark.parametrize(
        ("uri", "code", "text"),
        [
            ("ftp://bucket/a.zarr", 2, "it is not read"),
            ("n5://", 2, "it names no volume"),
            ("boss://a.b/col", 2, "not of the form boss://HOST/COL/EXP"),
            ("gs://no-such-bucket/a.zarr", 2, "there is no bucket no-such-bucket"),
            ("precomputed://gs://no-such-bucket/a", 2, "there is no bucket no-such-bucket"),
            ("precomputed://s3://no-such-bucket/a", 2, "NoSuchBucket"),
            ("https://user:secret@example.org/a.zarr", 2, "which logs would show"),
            ("s3://bucket", 2, "it names no volume"),
            ("s3://no-such-bucket/a.zarr", 2, "NoSuchBucket"),
            ("http://127.0.0.1:9/a.zarr", 69, "no answer"),
        ],
    )
    def test_an_address_without_a_volume_is_refused(
        self, s3_env: S3Server, tmp_path: Path, uri: str, code: int, text: str
    ) -> None:
        found, line = refusal(uri, path=tmp_path)
        assert found == code
        assert re.search(text, line)
        assert "secret" not in line

    def test_a_chunk_that_is_cut_short_is_named(self, tmp_path: Path) -> None:
        _ome05(tmp_path / "a")
        chunk = next(path for path in (tmp_path / "a" / "0" / "c").rglob("*") if path.is_file())
        chunk.write_bytes(chunk.read_bytes()[:20])
        code, line = refusal(str(tmp_path / "a"), path=tmp_path, dry=False)
        assert code == 65
        assert re.search("damaged, cut short", line)

    def test_a_web_server_that_refuses_or_fails_is_named(self, tmp_path: Path) -> None:
        write("ome05.zarr", tmp_path / "a.zarr", CHANNELS)
        with served(tmp_path) as (url, server):
            location = Location(f"{url}/a.zarr")
            source = open_source(location)
            server.answers = {"/c/": 403}
            with pytest.raises(PermissionDeniedError, match="403"):
                source.get_cutout("PSD95", *PART)
            server.answers = {"zarr": 403, ".z": 403}
            with pytest.raises(PermissionDeniedError, match="403"):
                open_source(location)
            server.answers = {"zarr.json": 418}
            with pytest.raises(UnavailableError, match="418"):
                open_source(location)
            server.answers = {}
            with pytest.raises(UnknownNameError, match="no Zarr array"):
                open_source(Location(f"{url}/b"))

    def test_a_web_page_in_the_place_of_metadata_is_named_and_one_beside_them_is_not(self, tmp_path: Path) -> None:
        """Servers of web applications, and pages to sign in, answer every path with 200; zarr warned of two formats."""
        write("ome05.zarr", tmp_path / "a.zarr", CHANNELS)
        with served(tmp_path) as (url, server):
            server.page = b"\n<!DOCTYPE html><p>Sign in</p>"
            assert open_source(Location(f"{url}/a.zarr")).channels == sorted(CHANNELS)
            code, line = refusal(f"{url}/b.zarr", path=tmp_path)
        assert code == 65
        assert re.search(r"the server answered a web page\. Check the address, and whether one has to sign in", line)

    def test_a_folder_with_metadata_of_both_formats_is_read_as_the_newer_without_a_warning(
        self, tmp_path: Path
    ) -> None:
        write("zarr2.zarr", tmp_path / "a.zarr", {name: voxels[:2] for name, voxels in CHANNELS.items()})
        write("zarr3.zarr", tmp_path / "b.zarr", CHANNELS)
        shutil.copytree(tmp_path / "b.zarr", tmp_path / "a.zarr", dirs_exist_ok=True)
        assert open_source(Location(str(tmp_path / "a.zarr"))).frame.extent.shape == SHAPE

    @pytest.mark.parametrize("how", ["cut", "byte"])
    def test_a_response_that_is_cut_short_or_does_not_end_is_requested_again(
        self, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(responses, "_RESPONSE_S", 0.5)
        write("ome05.zarr", tmp_path / "a.zarr", CHANNELS)
        with served(tmp_path) as (url, server):
            source = open_source(Location(f"{url}/a.zarr"))
            server.broken = how
            found = source.get_cutout("PSD95", *PART)
        assert np.array_equal(found, CHANNELS["PSD95"][Box(*PART).slices()])
        assert not server.broken

    def test_a_range_outside_and_a_channel_that_is_not_there_are_refused(self, tmp_path: Path) -> None:
        write("stacks", tmp_path / "a", CHANNELS)
        source = open_source(Location(str(tmp_path / "a")))
        with pytest.raises(RangeError, match="z range 0,7"):
            source.part(((0, 7), None, None))
        with pytest.raises(UnknownNameError, match="it has PSD95, SYNAPSIN"):
            source.part((None, None, None), ["PSD"])

    def test_the_library_call_takes_one_volume(self) -> None:
        with pytest.raises(UsageError, match="source with host"):
            driver.driver("a.b", "0123456789", "c", "e", source="a.zarr")
        with pytest.raises(UsageError, match="token, col, exp, z_range"):
            driver.get_data("a.b")
