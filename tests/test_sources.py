"""Volumes in files, in buckets and on web servers: what is in them is what a source gives."""

from __future__ import annotations

import io
import os
import pickle
import re
import shutil
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import tifffile

import driver
from nd_synapse.cli import sources
from nd_synapse.files import chunked
from nd_synapse.geometry import Box
from nd_synapse.sources.location import Location
from nd_synapse.sources.source import open_source
from tests.fixtures_s3 import S3Server
from tests.in_process import main, restored
from tests.served_volumes import CHANNELS, PART, put, served
from tests.volumes_on_disk import FORMS, SIZE_NM, uri_of, write


class TestReading:
    """What is in the files is what a source gives."""

    @pytest.mark.parametrize("form", FORMS)
    def test_every_form_gives_the_same_voxels_names_and_voxel_size(self, form: str, tmp_path: Path) -> None:
        write(form, tmp_path / form, CHANNELS)
        uri = uri_of(form, tmp_path / form)
        data, size = driver.get_data(source=uri)
        assert size == SIZE_NM
        assert sorted(data) == sorted(CHANNELS)
        part = pickle.loads(pickle.dumps(open_source(Location(uri)).part(PART)))
        assert part.box == Box(*PART)
        for name, voxels in CHANNELS.items():
            assert np.array_equal(data[name], voxels)
            cutout = part.get_cutout(name, *PART)
            assert cutout.flags.c_contiguous
            assert np.array_equal(cutout, voxels[part.box.slices()])
            assert cutout.dtype == part.dtype(name) == np.uint8

    @pytest.mark.parametrize("form", ["zarr3.zarr", "ome04.zarr", "n5", "shards"])
    def test_buckets_and_the_web_give_what_the_folder_has(self, form: str, s3_env: S3Server, tmp_path: Path) -> None:
        write(form, tmp_path / form, CHANNELS)
        in_s3 = uri_of(form, put(s3_env, tmp_path / form, acl="public-read"))
        with served(tmp_path) as (url, _):
            # a web server has no list of the volumes in a folder
            on_web = {name: uri_of(form, f"{url}/{form}/{name}") for name in CHANNELS}
            alone = form in ("n5", "shards")
            for address in (in_s3, in_s3.replace("s3://", "gs://"), on_web if alone else f"{url}/{form}"):
                data, size = driver.get_data(source=address)
                assert size == SIZE_NM
                assert all(np.array_equal(data[name], voxels) for name, voxels in CHANNELS.items())

    def test_a_public_bucket_is_read_without_credentials(
        self, s3_env: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write("ome05.zarr", tmp_path / "a.zarr", CHANNELS)
        address = put(s3_env, tmp_path / "a.zarr", acl="public-read")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        started = time.monotonic()
        assert open_source(Location(address)).channels == sorted(CHANNELS)
        assert time.monotonic() - started < 5

    def test_a_level_of_an_ome_zarr_has_its_own_voxels_and_voxel_size(self, tmp_path: Path) -> None:
        write("ome05.zarr", tmp_path / "a.zarr", CHANNELS)
        data, size = driver.get_data(source=tmp_path / "a.zarr", resolution=1)
        assert size == (70, 200, 200)
        assert np.array_equal(data["PSD95"], CHANNELS["PSD95"][:, ::2, ::2])

    def test_opening_reads_no_voxel(self, tmp_path: Path) -> None:
        write("ome05.zarr", tmp_path / "a.zarr", CHANNELS)
        printed = io.StringIO()
        with served(tmp_path) as (url, server), restored(), redirect_stdout(printed):
            assert sources.main([f"{url}/a.zarr"]) == 0
            words = ("run", "--source", f"{url}/a.zarr", "--path", str(tmp_path), "--dry-run")
            assert main("nd-synapse", *words) == 0
        assert {path.rpartition("/")[2] for path in server.requests} <= {
            *("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
        }
        lines = dict(line.split(maxsplit=1) for line in printed.getvalue().splitlines()[:8])
        assert lines["channels"] == "PSD95 (uint8), SYNAPSIN (uint8)"
        assert lines["voxel"] == "70,100,100 nm (z, y, x)"
        assert lines["levels"] == "0 to 1; this is 0"
        assert lines["nomads-unsupervised"] == "presynaptic SYNAPSIN, postsynaptic PSD95"

    def test_a_block_of_a_compressed_stack_takes_one_page_at_a_time(self, tmp_path: Path) -> None:
        wide = np.arange(5 * 40 * 50, dtype=np.uint16).reshape(5, 40, 50)
        tifffile.imwrite(tmp_path / "PSD95.tif", wide, compression="zlib", bigtiff=True, byteorder=">")
        source = open_source(Location(str(tmp_path), voxel_size_nm=SIZE_NM))
        assert np.array_equal(source.get_cutout("PSD95", (1, 3), (5, 9), (40, 50)), wide[1:3, 5:9, 40:50])

    @pytest.mark.parametrize("form", ["slices", "zarr2.zarr", "ome05.zarr", "n5", "precomputed", "shards"])
    def test_a_file_that_changed_is_another_volume(self, form: str, tmp_path: Path) -> None:
        write(form, tmp_path / "a", CHANNELS)
        location = Location(uri_of(form, tmp_path / "a"))
        before = open_source(location).identity
        assert open_source(location).identity == before
        files = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
        os.utime(max(path for path in files if not re.search(r"/\.|/info$|json$|/a/1/", str(path))), (0, 0))
        assert open_source(location).identity != before

    def test_another_level_and_labels_beside_an_image_are_no_part_of_it(self, tmp_path: Path) -> None:
        write("ome05.zarr", tmp_path / "a", CHANNELS)
        before = open_source(Location(str(tmp_path / "a"))).identity
        for path in (tmp_path / "a" / "1").rglob("*"):
            os.utime(path, (0, 0))
        shutil.copytree(tmp_path / "a" / "1", tmp_path / "a" / "labels" / "b")
        assert open_source(Location(str(tmp_path / "a"))).identity == before

    @pytest.mark.parametrize("scheme", ["s3", "gs"])
    @pytest.mark.parametrize("form", ["ome05.zarr", "precomputed"])
    def test_an_object_that_changed_is_another_volume(
        self, scheme: str, form: str, s3_env: S3Server, tmp_path: Path
    ) -> None:
        write(form, tmp_path / form, CHANNELS)
        address = put(s3_env, tmp_path / form, acl="public-read").replace("s3", scheme)
        location, client = Location(uri_of(form, address)), s3_env.client()
        before = open_source(location).identity
        (key,) = [key for key in s3_env.keys("volumes") if re.search(r"/0/c/0/0/0/0$|PSD95/.*/5-.*_6-.*_7-", key)]
        body = client.get_object(Bucket="volumes", Key=key)["Body"].read()
        for content, same in ((body, True), (body + b" ", False)):
            client.put_object(Bucket="volumes", Key=key, Body=content, ACL="public-read")
            assert (open_source(location).identity == before) == same

    def test_of_many_files_some_are_looked_at_and_all_names(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chunked, "_EACH", 10)
        for number in range(60):
            (tmp_path / f"{number:02d}").touch()
        lines = list(chunked.Folder(tmp_path).versions(""))
        assert len(lines) == 60
        assert [number for number, line in enumerate(lines, 1) if " " in line] == [*range(1, 11), 16, 32, 48]
