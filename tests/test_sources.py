"""Volumes in files, in buckets and on web servers: read in place, and searched like one in BOSS."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import driver
from nd_synapse import responses
from nd_synapse.cli import sources
from nd_synapse.errors import PermissionDeniedError, RangeError, UnavailableError, UnknownNameError, UsageError
from nd_synapse.files import chunked
from nd_synapse.geometry import Box
from nd_synapse.sources.location import Location
from nd_synapse.sources.source import open_source
from tests.fixtures_boss import BossServer, blobs, fill, start_boss
from tests.fixtures_s3 import S3Server
from tests.in_process import main, restored
from tests.volumes_on_disk import FORMS, SIZE_NM, uri_of, write

SHAPE = (6, 60, 70)
CHANNELS = blobs(SHAPE, 5, 25)
PART = ((1, 5), (7, 44), (30, 70))
RESULT = ("nomads-unsupervised-predictions.pkl", "synapses.csv")
REAL = ("PSD95", "SYNAPSIN", "GLUR1", "LY")


def found_by(source: object, path: Path, **more: Any) -> list[bytes]:
    """Run the default pipeline; return the bytes of mask and table."""
    info, _, links = driver.driver(source=str(source), path=path, plots=False, cpus=1, **more)
    assert links == {}
    return [(Path(info["folder"]) / name).read_bytes() for name in RESULT]


def in_boss(boss: BossServer, col: str, exp: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the arguments that name a whole volume in BOSS."""
    ranges = {f"{axis}_range": (0, n) for axis, n in zip("zyx", shape, strict=True)}
    return {"host": boss.url, "token": boss.token, "col": col, "exp": exp, **ranges}


def put(server: S3Server, folder: Path, bucket: str = "volumes", acl: str = "private") -> str:
    """Copy a folder to S3, and return its address."""
    client = server.client()
    client.create_bucket(Bucket=bucket)
    for file in folder.rglob("*"):
        if file.is_file():
            key = f"lab/{folder.name}/{file.relative_to(folder)}"
            client.put_object(Bucket=bucket, Key=key, Body=file.read_bytes(), ACL=acl)
    return f"s3://{bucket}/lab/{folder.name}"


def refusal(uri: str, *words: str, path: Path, dry: bool = True) -> tuple[int, str]:
    """Run a job that is refused; return its exit code and its one line, after those of requests that broke."""
    printed = io.StringIO()
    more = ["--dry-run"] if dry else ["--quiet"]
    with restored(), redirect_stderr(printed):
        code = main("nd-synapse", "run", "--source", uri, *words, "--path", str(path / "out"), "--no-plots", *more)
    (line,) = [line for line in printed.getvalue().splitlines() if "Retrying" not in line]
    return code, line


class Server(ThreadingHTTPServer):
    """A web server that lists nothing and reads no ranges; `answers` gives other statuses to some paths."""

    request_queue_size = 128  # a source opens many connections at once
    requests: list[str]
    answers: dict[str, int]
    page: bytes = b""
    """What is sent, with 200, in the place of a file that is missing."""
    broken: str = ""
    """How the first response for a chunk ends: "cut" short, or never, byte after "byte"."""


class _Handler(SimpleHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        status = next((code for part, code in self.server.answers.items() if part in self.path), 200)
        if self.server.page and not Path(self.translate_path(self.path)).is_file():
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.server.page)))
            self.end_headers()
            self.wfile.write(self.server.page)
        elif status != 200 or Path(self.translate_path(self.path)).is_dir():
            self.send_error(status if status != 200 else 404)
        elif self.server.broken and "/c/" in self.path:
            how, self.server.broken = self.server.broken, ""
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            with suppress(OSError):  # until the client has had enough
                while how == "byte":
                    self.wfile.write(b" ")
                    time.sleep(0.02)
            self.close_connection = True
        else:
            super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path, **answers: int) -> Iterator[tuple[str, Server]]:
    """Serve a folder; yield its address."""
    server = Server(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
    server.requests, server.answers = [], answers
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, Any]:
    return {name: tifffile.imread(shared_data / "at_example" / f"{name}.tif") for name in REAL}


@pytest.fixture(scope="module")
def boss_result(real: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("boss")
    fill(folder / "data", "weiler", "at_example", real)
    with start_boss(folder / "data") as boss:
        where = in_boss(boss, "weiler", "at_example", real["LY"].shape)
        info, _, _ = driver.driver(**where, path=folder, plots=False, push=False)
    return [(Path(info["folder"]) / name).read_bytes() for name in RESULT]


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


class TestRun:
    """A job does not show where its volume lies."""

    def test_boss_and_a_bucket_give_the_same_mask_and_table(self, s3_env: S3Server, tmp_path: Path) -> None:
        fill(tmp_path / "boss", "small", "plain", CHANNELS)
        with start_boss(tmp_path / "boss") as boss:
            where = in_boss(boss, "small", "plain", SHAPE)
            info, _, _ = driver.driver(**where, path=tmp_path / "out", plots=False, push=False, cpus=1)
        expected = [(Path(info["folder"]) / name).read_bytes() for name in RESULT]
        write("ome05.zarr", tmp_path / "a.zarr", CHANNELS)
        assert found_by(put(s3_env, tmp_path / "a.zarr"), tmp_path / "s3", block_size=(4, 32, 32)) == expected
        folder = tmp_path / "s3" / "nomads-unsupervised_a_z_0_6_y_0_60_x_0_70"
        assert not re.search("numcodecs|zarr\\.core", (folder / "job.log").read_text())
        run = json.loads((folder / "run.json").read_text())
        assert run["asked"]["source"]["uri"] == "s3://volumes/lab/a.zarr"
        printed = io.StringIO()
        with restored(), redirect_stdout(printed):
            assert main("nd-synapse", "verify", str(folder)) == 0
        assert re.search(r"ok   sample .* 0 voxels differ .* rows are equal", printed.getvalue())

    @pytest.mark.slow
    @pytest.mark.parametrize("form", FORMS)
    def test_every_form_of_the_real_volume_gives_the_mask_and_table_of_boss(
        self, form: str, boss_result: list[bytes], real: dict[str, Any], tmp_path: Path
    ) -> None:
        write(form, tmp_path / form, real)
        assert found_by(uri_of(form, tmp_path / form), tmp_path / "out", block_size=(8, 300, 500)) == boss_result

    @pytest.mark.slow
    @pytest.mark.parametrize("place", ["a folder of slices", "S3 to S3"])
    def test_a_killed_run_goes_on_to_the_same_bytes(
        self, place: str, boss_result: list[bytes], real: dict[str, Any], s3_env: S3Server, tmp_path: Path
    ) -> None:
        write("slices" if place != "S3 to S3" else "ome05.zarr", tmp_path / "a.zarr", real)
        uri, out = str(tmp_path / "a.zarr"), str(tmp_path / "left")
        if place == "S3 to S3":
            uri, out = put(s3_env, tmp_path / "a.zarr", "killed"), "s3://killed/left"
        words = ["run", "--source", uri, "--path", str(tmp_path / "out"), "--no-plots", "--out", out]
        words += ["--cpus", "1", "--block-size", "8,256,256", "--voxel-size-nm", "70,100,100"]
        command = [sys.executable, "-m", "nd_synapse", *words]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        (folder,) = _wait_for(lambda: list((tmp_path / "out").glob("nomads*")))
        _wait_for(lambda: len(list(folder.glob(".work/statistics-*/*"))) > 3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with restored(), redirect_stderr(io.StringIO()):
            assert main("nd-synapse", *words) == 0
        assert json.loads((folder / "run.json").read_text())["resumed_blocks"]["statistics"] > 3
        assert [(folder / name).read_bytes() for name in RESULT] == boss_result

    @pytest.mark.slow
    @pytest.mark.parametrize("form", ["zarr2.zarr", "n5", "precomputed"])
    def test_a_chunk_that_changed_since_a_killed_run_is_read_anew(self, form: str, tmp_path: Path) -> None:
        """It is in the second block, and of 128 every sixteenth is compared: the result had voxels of both."""
        channels = blobs((8, 256, 256), 5, 900)
        write(form, tmp_path / "a", channels)
        words = ["run", "--source", uri_of(form, tmp_path / "a"), "--path", str(tmp_path / "out"), "--no-plots"]
        words += ["--cpus", "1", "--block-size", "4,32,32"]
        process = subprocess.Popen([sys.executable, "-m", "nd_synapse", *words], stderr=subprocess.DEVNULL)
        (folder,) = _wait_for(lambda: list((tmp_path / "out").glob("nomads*")))
        _wait_for(lambda: len(list(folder.glob(".work/statistics-*/*"))) > 40)
        process.send_signal(signal.SIGKILL)
        process.wait()
        (before,) = folder.glob(".work/statistics-*")
        write(form, tmp_path / "b", {name: voxels[::-1, ::-1, ::-1] for name, voxels in channels.items()})
        chunk = {"zarr2.zarr": "PSD95/0.0.1", "n5": "PSD95/1/0/0", "precomputed": "PSD95/100_100_70/37-69_6-38_7-9"}[
            form
        ]
        (tmp_path / "a" / chunk).write_bytes((tmp_path / "b" / chunk).read_bytes())
        with restored(), redirect_stderr(io.StringIO()):
            assert main("nd-synapse", *words) == 0
        assert json.loads((folder / "run.json").read_text())["resumed_blocks"].get("statistics", 0) == 0
        assert not before.exists()
        found = [(folder / name).read_bytes() for name in RESULT]
        assert found == found_by(uri_of(form, tmp_path / "a"), tmp_path / "fresh")


def _wait_for(found: Any, limit_s: float = 60) -> Any:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.02)
    pytest.fail("it did not come")


def test_a_channel_in_colour_is_named_once_by_a_run_and_by_its_log(tmp_path: Path) -> None:
    write("stacks", tmp_path / "a", CHANNELS)
    tifffile.imwrite(tmp_path / "a" / "view.tif", np.zeros((*SHAPE, 3), np.uint8), photometric="rgb")
    printed, words = io.StringIO(), ["--path", str(tmp_path / "out"), "--no-plots"]
    with restored(), redirect_stderr(printed):
        assert main("nd-synapse", "run", "--source", str(tmp_path / "a"), *words, "--cpus", "2") == 0
    (log_file,) = tmp_path.glob("out/*/job.log")
    for text in (printed.getvalue(), log_file.read_text()):
        assert text.count("left out: ") == 1


@pytest.mark.parametrize("more", [[], ["--fresh"]], ids=["at first", "fresh"])
def test_a_run_that_is_refused_leaves_no_folder_that_looks_like_a_result(tmp_path: Path, more: list[str]) -> None:
    """And takes nothing from one that was there."""
    write("stacks", tmp_path / "a", CHANNELS)
    box = ["--z-range", "0,99", "--y-range", "0,60", "--x-range", "0,70", *more]
    assert refusal(str(tmp_path / "a"), *box, path=tmp_path, dry=False)[0] == 2
    assert list((tmp_path / "out").iterdir()) == []
    kept = tmp_path / "out" / "nomads-unsupervised_a_z_0_99_y_0_60_x_0_70"
    kept.mkdir()
    refusal(str(tmp_path / "a"), *box, path=tmp_path, dry=False)
    assert (kept / "job.log").exists()
