"""What a source takes beside its URI: channels that lie apart, scaled floats, neurodata.cfg; and BOSS by its URI."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

import driver
import nd_multicore
from batch.arguments import for_container
from nd_synapse.boss.address import volume_of_uri
from nd_synapse.cli import sources
from nd_synapse.errors import DataError, UsageError
from nd_synapse.job.manifest import read_run_file
from nd_synapse.sources.location import Location
from nd_synapse.sources.source import open_source
from tests.fixtures_boss import BossServer, blobs, fill
from tests.in_process import main, restored
from tests.volumes_on_disk import SIZE_NM, write

SHAPE = (6, 60, 70)
CHANNELS = blobs(SHAPE, 5, 25)
WORDS = ("--no-plots", "--cpus", "1", "--quiet")


def shapes(data: dict[str, NDArray[np.uint8]]) -> dict[str, tuple[int, ...]]:
    """Return what `nd_multicore` runs on a block."""
    return {name: voxels.shape for name, voxels in data.items()}


@pytest.fixture
def apart(tmp_path: Path) -> dict[str, str]:
    """Two channels of different formats."""
    write("n5", tmp_path / "n5", CHANNELS)
    write("stacks", tmp_path / "stacks", CHANNELS)
    return {"PSD95": f"n5://{tmp_path}/n5/PSD95", "SYNAPSIN": f"{tmp_path}/stacks/SYNAPSIN.tif"}


def test_channels_that_lie_apart_are_one_volume(apart: dict[str, str], tmp_path: Path) -> None:
    data, size = driver.get_data(source=apart)
    assert size == SIZE_NM
    assert all(np.array_equal(data[name], voxels) for name, voxels in CHANNELS.items())
    words = [word for name, uri in apart.items() for word in ("--channel", f"{name}={uri}")]
    printed = io.StringIO()
    with restored(), redirect_stdout(printed):
        assert sources.main(words) == 0
        assert main("nd-synapse", "run", *words, "--name", "both", "--path", str(tmp_path / "out"), *WORDS) == 0
    assert "PSD95 (uint8), SYNAPSIN (uint8)" in printed.getvalue()
    (folder,) = (tmp_path / "out").iterdir()
    run = read_run_file(folder)
    assert run.source is not None
    assert dict(run.source.channels) == apart
    # the same channels, elsewhere and in one
    write("ome05.zarr", tmp_path / "moved.zarr", CHANNELS)
    with restored(), redirect_stdout(printed):
        assert main("nd-synapse", "verify", str(folder)) == 0
        assert main("nd-synapse", "verify", str(folder), "--source", str(tmp_path / "moved.zarr")) == 0


def test_a_channel_that_lies_apart_is_the_one_of_its_name(tmp_path: Path) -> None:
    write("ome05.zarr", tmp_path / "a.zarr", CHANNELS)
    uri = str(tmp_path / "a.zarr")
    assert np.array_equal(driver.get_data(source={"PSD95": uri})[0]["PSD95"], CHANNELS["PSD95"])
    with pytest.raises(DataError, match="it has the channels PSD95, SYNAPSIN"):
        driver.get_data(source={"GLUR1": uri})


def floats(path: Path, *values: float) -> str:
    voxels = np.zeros((2, 3, 4), np.float32)
    voxels.ravel()[: len(values)] = values
    tifffile.imwrite(
        path, voxels, imagej=True, metadata={"axes": "ZYX", "spacing": 0.07, "unit": "um"}, resolution=(10, 10)
    )
    return str(path)


def test_floats_are_scaled_on_request_as_defined(tmp_path: Path) -> None:
    uri = floats(tmp_path / "a.tif", 0, 1, 0.5, 0.25, 1 / 65535, 1.4 / 65535, 1.6 / 65535)
    with pytest.raises(DataError, match=r"it holds float32, not whole numbers\. Give scale_float"):
        driver.get_data(source=uri)
    data, _ = driver.get_data(source=uri, scale_float=True)
    # 32767.5 and 16383.75: a half goes to the even number
    assert data["a"].ravel()[:8].tolist() == [0, 65535, 32768, 16384, 1, 1, 2, 0]
    assert data["a"].dtype == np.uint16
    location = Location(uri, scale_float=True)
    assert Location.of_json(json.loads(json.dumps(location.as_json()))) == location


@pytest.mark.parametrize("value", [1.0001, -0.1, np.nan, np.inf])
def test_a_value_that_cannot_be_scaled_is_refused_with_its_place(tmp_path: Path, value: float) -> None:
    uri = floats(tmp_path / "a.tif", *[0.5] * 18, value)
    source = open_source(Location(uri, scale_float=True))
    with pytest.raises(DataError, match=r"a.tif: the value at z 1 y 1 x 2 is .*, not within 0 to 1"):
        source.get_cutout("a", (1, 2), (1, 3), (2, 4))


def test_scaled_floats_are_another_volume(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a.zarr", shape=(2, 4, 4), dtype="uint8", dimension_names=list("zyx"))
    array[:] = 1
    one, two = (Location(str(tmp_path / "a.zarr"), 0, SIZE_NM, scale_float=scaled) for scaled in (False, True))
    assert open_source(one).identity != open_source(two).identity


def config(path: Path, text: str) -> Path:
    path.write_text(f"[source]\n{text}\n[Parallel]\nz_range = 1,5\n")
    return path


def test_neurodata_cfg_names_a_source(apart: dict[str, str], tmp_path: Path) -> None:
    lines = "".join(f"    {name}={uri}\n" for name, uri in apart.items())
    path = config(tmp_path / "neurodata.cfg", f"channels =\n{lines}name = both\nvoxel_size_nm = 70, 100, 100\n")
    words = ("run", "--config", str(path), "--path", str(tmp_path / "out"))
    with restored(), redirect_stderr(io.StringIO()):
        assert main("nd-synapse", *words, *WORDS) == 0
        # the command line comes first
        assert (
            main("nd-synapse", *words, "--source", apart["PSD95"], "--channels", "presynaptic=PSD95", "--dry-run") == 2
        )
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name == "nomads-unsupervised_both_z_1_5_y_0_60_x_0_70"
    results = nd_multicore.run_parallel(path, shapes, 1, block_size=(70, 60, 4))
    assert list(results) == ["1_0_0", "4_0_0"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "one of them names what to read"),
        ("uri = a.zarr\nchannels = PSD95=b.zarr", "one of them names what to read"),
        ("uri = a.zarr\nvoxelsize = 1,2,3", "voxelsize in .source.* there is no such key"),
        ("uri = a.zarr\nscale_float = maybe", "it is neither yes nor no"),
        ("uri = a.zarr\nresolution = fine", "not a whole number"),
        ("uri = bossdb://col/exp", "it leads to BOSS"),
        ("uri = a.zarr\n[Default]\nhost = a.b", "each names a volume"),
    ],
)
def test_a_section_that_says_too_much_or_too_little_is_refused(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(UsageError, match=found):
        nd_multicore.run_parallel(config(tmp_path / "neurodata.cfg", text), shapes)


def test_a_uri_of_boss_is_host_collection_and_experiment() -> None:
    assert volume_of_uri("boss://api.a.org/col/exp") == ("api.a.org", "col", "exp")
    assert volume_of_uri("boss://http://127.0.0.1:8080/col/exp/") == ("http://127.0.0.1:8080", "col", "exp")
    assert volume_of_uri("bossdb://col/exp") == ("api.bossdb.io", "col", "exp")
    assert volume_of_uri("s3://col/exp") is None
    for wrong in ("boss://a.b/col", "bossdb://col", "bossdb://col/exp/chan", "boss://"):
        with pytest.raises(UsageError, match="not of the form"):
            volume_of_uri(wrong)


def test_a_uri_of_boss_reads_the_whole_volume(boss_server: BossServer, tmp_path: Path) -> None:
    fill(boss_server.data, "by", "uri", CHANNELS)
    uri = f"boss://{boss_server.url}/by/uri"
    data, size = driver.get_data(source=uri, token=boss_server.token)
    assert size == SIZE_NM
    assert all(np.array_equal(data[name], voxels) for name, voxels in CHANNELS.items())
    printed = io.StringIO()
    with restored(), redirect_stdout(printed):
        assert sources.main([uri, "--token", boss_server.token]) == 0
    assert "PSD95 (uint8), SYNAPSIN (uint8)" in printed.getvalue()
    assert f"nd-synapse run --source {uri}\n" in printed.getvalue()
    assert boss_server.token not in printed.getvalue()
    part, _ = driver.get_data(source=uri, token=boss_server.token, z_range=(1, 3))
    assert np.array_equal(part["PSD95"], CHANNELS["PSD95"][1:3])
    printed = io.StringIO()
    words = ("run", "--source", uri, "--token", boss_server.token, "--path", str(tmp_path), "--dry-run")
    with restored(), redirect_stdout(printed):
        assert main("nd-synapse", *words) == 0
    assert "nomads-unsupervised_by_uri_z_0_6_y_0_60_x_0_70" in printed.getvalue()
    refused: list[dict[str, Any]] = [{"name": "a"}, {"host": boss_server.url}]
    for more in refused:
        with pytest.raises(UsageError):
            driver.driver(source=uri, token=boss_server.token, path=tmp_path, **more)


@pytest.mark.parametrize(
    "words",
    [
        ("--source", "/data/a.zarr"),
        ("--source", "precomputed:///data/a"),
        ("--source", "n5://file:///data/a"),
        ("--channel", "PSD95=/data/psd95.tif"),
    ],
)
def test_a_container_is_not_sent_to_a_path_of_this_machine(words: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="Copy the volume to S3"):
        for_container(words, None)
    assert for_container(("--source", "precomputed://s3://lab/a"), None) == ("--source", "precomputed://s3://lab/a")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["Synapsin", "PSD95"], ""),
        (["c0", "c1"], " --channels presynaptic=NAME,postsynaptic=NAME"),
        (["c0", "PSD95"], " --channels presynaptic=NAME,postsynaptic=PSD95"),
        (["c0"], " --pipeline puncta"),
    ],
)
def test_the_command_to_run_says_what_the_names_of_channels_do_not(
    names: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in names:
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((3, 8, 8), np.uint8), photometric="minisblack")
    assert sources.main([str(tmp_path)]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("to run"))
    assert line.endswith(f"--source {tmp_path} --voxel-size-nm Z,Y,X{words}")
