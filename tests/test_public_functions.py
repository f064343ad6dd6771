"""Any argument that a program passes to a public function ends in a result or in one of our errors."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import driver
import nd_boss
import nd_multicore
import pymeda_driver
from nd_synapse.credentials import Token
from nd_synapse.errors import DataError, NDSynapseError, RangeError, StorageError, UsageError
from nd_synapse.geometry import Box, Frame
from nd_synapse.job.folder import ResultFolder
from nd_synapse.job.job import Job
from nd_synapse.pipeline import registry
from nd_synapse.report.table import SynapseTable
from NeuroDataResource import NeuroDataResource
from pipelines.nomads_2018 import Nomads2018
from pipelines.nomads_classifier import NomadsClassifier
from pipelines.nomads_unsupervised import NomadsUnsupervised
from pipelines.probabilistic import Probabilistic
from tests.fixtures_boss import BossServer, fill, start_boss

TOKEN = "0123456789abcdef" * 2
BOX = Box((0, 4), (0, 4), (0, 4))
RANGES = ((0, 4), (0, 4), (0, 4))


@pytest.fixture(scope="module")
def small_boss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    """A BOSS with one small channel."""
    data = tmp_path_factory.mktemp("small")
    fill(data, "small", "plain", {"PSD95": np.arange(64, dtype=np.uint8).reshape(BOX.shape)})
    with start_boss(data) as server:
        yield server


def a_job(**fields: Any) -> Job:
    return Job(**{"host": "a.b", "token": Token(TOKEN), "collection": "c", "experiment": "e", "box": BOX, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"host": None},
        {"token": TOKEN},
        {"box": RANGES},
        {"pipeline": "nomads"},
        {"channels": "presynaptic=x"},
        {"only_channels": "PSD95"},
        {"cpus": "4"},
        {"cpus": 0},
        {"pulls": 1.5},
        {"memory_bytes": "2"},
        {"cache_bytes": 0},
        {"block_size": "8,8,8"},
        {"block_size": (8, 8)},
        {"path": "a\0b"},
        {"path": None},
        {"bucket": 5},
        {"push": "no"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_job_with_invalid_fields_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        a_job(**fields)
    assert len(str(caught.value)) < 400


def test_a_job_takes_a_pipeline_by_its_name_and_what_numpy_and_lists_hold() -> None:
    job = a_job(
        pipeline="probabilistic", cpus=np.int64(2), block_size=[8, np.uint8(9), 10], only_channels=["a"], path="folder"
    )
    assert job.pipeline == Probabilistic()
    assert (job.cpus, job.block_size, job.only_channels, job.path) == (2, (8, 9, 10), ("a",), Path("folder"))


@pytest.mark.parametrize("ends", [(0, math.inf), (0, math.nan), ("0", None), None, 5, (0, 10**400, 1), (0, 10**5000)])
def test_a_box_with_an_invalid_range_is_refused(ends: Any) -> None:
    for make in (lambda: Box(ends, (0, 1), (0, 1)), lambda: nd_multicore.Block((0, 1), ends, (0, 1))):
        with pytest.raises(RangeError, match="not two whole numbers"):
            make()


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (NomadsUnsupervised, {"strictness": math.nan}),
        (NomadsUnsupervised, {"min_voxels": 1.5}),
        (Nomads2018, {"marker": "neither"}),
        (NomadsClassifier, {"strictness": "3"}),
        (NomadsClassifier, {"min_volume_um3": -1}),
        (Probabilistic, {"punctum": None}),
        (Probabilistic, {"min_voxels": True}),
    ],
)
def test_a_pipeline_refuses_invalid_parameters_when_it_is_constructed(make: Any, values: Any) -> None:
    with pytest.raises(UsageError, match="parameter"):
        make(**values)


@pytest.mark.parametrize("text", ["1_0", " 2", "+2", "\N{ARABIC-INDIC DIGIT THREE}", "2.5", "nan", "9" * 5000])
def test_a_whole_number_of_a_pipeline_is_digits_alone(text: str) -> None:
    with pytest.raises(UsageError, match="min_voxels"):
        registry.build("nomads-unsupervised", {"min_voxels": text})
    assert registry.build("nomads-unsupervised", {"min_voxels": "20", "strictness": "0.25"}) == NomadsUnsupervised(
        min_voxels=20, strictness=0.25
    )


def test_a_result_folder_with_an_invalid_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder can have this name"):
        ResultFolder(Path("a\0b"), "key")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="--path"):
        ResultFolder.named(tmp_path / "file", "key").check_place()
    ResultFolder.named(tmp_path / "not" / "there", "key").check_place()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_upload_of_an_invalid_folder_or_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "RESULTS_BUCKET", "bucket")
    for path, key in (("a\0", "key"), ("", "key"), (".", None), (".", 5)):
        with pytest.raises(UsageError):
            driver.upload_results(path, key)  # type: ignore[arg-type] # it is wrong


def test_the_historical_functions_on_arrays_give_a_mask_and_standardised_copies() -> None:
    rng = np.random.default_rng(1)
    channels = {name: rng.poisson(20, (6, 40, 40)).astype(np.uint8) for name in ("PSD95", "SYNAPSIN")}
    for voxels in channels.values():
        voxels[2:4, 10:15, 10:15] = 200
        voxels.flags.writeable = False
    mask = driver.run_nomads({**channels, "labels": np.zeros((6, 40, 40), np.uint64)})
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 255}
    assert mask.shape == (6, 40, 40)
    for values in driver.load_and_preproc(channels).values():
        assert values.mean() == pytest.approx(0, abs=1e-9)
        assert values.std() == pytest.approx(1)
    for function in (driver.run_nomads, driver.load_and_preproc):
        for wrong in (None, {"a": np.array(["text"])}, {"a": np.zeros((2, 2, 2), np.uint8)}):
            with pytest.raises((UsageError, DataError)):
                function(wrong)  # type: ignore[arg-type] # it is wrong


@pytest.mark.parametrize(
    "changed",
    [
        {"data_dict": None},
        {"data_dict": {"a": [[[1]], [[1, 2]]]}},
        {"data_dict": {"a": "text"}},
        {"data_dict": {"a": np.zeros(BOX.shape, np.uint8)}, "host": None},
        {"data_dict": {"a": np.zeros(BOX.shape, np.uint8)}, "z_range": (0, math.inf)},
    ],
    ids=lambda changed: " ".join(f"{name}={type(value).__name__}" for name, value in changed.items()),
)
def test_a_push_with_invalid_arguments_is_refused(changed: dict[str, Any]) -> None:
    given = dict(zip(("z_range", "y_range", "x_range"), RANGES, strict=True))
    with pytest.raises((UsageError, DataError)):
        nd_boss.boss_push(
            **{"token": TOKEN, "col": "c", "exp": "e", **given, "results_key": "key", "host": "http://127.0.0.1:9"}
            | changed
        )


@pytest.mark.parametrize(
    ("results", "norm_data", "options"),
    [
        ([[[1]]], None, {}),
        ([[[1], [1, 2]]], {}, {}),
        (np.ones((2, 2, 2)), {"a": np.full((2, 2, 2), "x")}, {}),
        (np.ones((2, 2, 2)), {"a": np.full((2, 2, 2), 1e308)}, {}),
        (np.ones((2, 2, 2)), {}, {"voxel_size_nm": (1, 1, math.nan)}),
        (np.ones((2, 2, 2)), {}, {"path": "a\0b"}),
    ],
)
def test_a_report_with_invalid_arguments_is_refused(tmp_path: Path, results: Any, norm_data: Any, options: Any) -> None:
    with pytest.raises((UsageError, DataError)):
        pymeda_driver.pymeda_pipeline(results, norm_data, **{"path": tmp_path, **options})


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((None, [], *RANGES), {}),
        (("plain", None, *RANGES), {}),
        (("plain", "PSD95", *RANGES), {}),
        (("plain", [], (0, math.inf), (0, 4), (0, 4)), {}),
        (("plain", [], *RANGES), {"host": None}),
        (("plain", [], *RANGES), {"token": None}),
    ],
)
def test_a_resource_with_invalid_arguments_is_refused(
    small_boss: BossServer, arguments: Any, options: dict[str, Any]
) -> None:
    where = {"host": small_boss.url, "token": small_boss.token, "collection": "small", **options}
    with pytest.raises(UsageError):
        NeuroDataResource(where["host"], where["token"], where["collection"], *arguments)


def test_a_channel_that_is_not_text_is_refused(small_boss: BossServer) -> None:
    resource = NeuroDataResource(small_boss.url, small_boss.token, "small", "plain", [], *RANGES)
    for ask in (resource.dtype, resource.assert_channel_exists, lambda name: resource.get_cutout(name, *RANGES)):
        with pytest.raises(NDSynapseError, match="no such channel"):
            ask(5)  # type: ignore[arg-type] # it is wrong


@pytest.mark.parametrize(
    "fields", [{"cpus": "four"}, {"pulls": None}, {"memory_bytes": 10**400}, {"memory_bytes": "2"}, {"scratch": "a\0"}]
)
def test_numbers_of_a_function_on_blocks_are_numbers(
    small_boss: BossServer, tmp_path: Path, fields: dict[str, Any]
) -> None:
    config = tmp_path / "neurodata.cfg"
    config.write_text(
        f"[Default]\ntoken = {small_boss.token}\nhost = {small_boss.url}\n[shared]\ncollection = small\n"
        "experiment = plain\n[Parallel]\nx_range = 0,4\ny_range = 0,4\nz_range = 0,4\n"
    )
    with pytest.raises(UsageError):
        nd_multicore.run_parallel(config, len, **fields)
    with pytest.raises(UsageError):
        nd_multicore.run_parallel(None, len)  # type: ignore[arg-type] # it is wrong


@pytest.mark.parametrize("size", [(1e-320, 1.0, 1.0), (1e150, 1e150, 1e150), (0.0, 1.0, 1.0), (math.nan, 1.0, 1.0)])
def test_voxels_of_an_invalid_size_are_refused(size: tuple[float, float, float]) -> None:
    with pytest.raises(DataError, match=r"three sizes from 0\.001 to 1e\+09 nm"):
        Frame("frame", BOX, size)


class TestTable:
    """A report of a table, by the command line."""

    def test_a_title_that_is_no_text_is_shown_as_far_as_it_is_text(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table = tmp_path / "table.csv"
        table.write_text("a,b\n1,2\n3,4\n")
        assert pymeda_driver.main([str(table), "--out", str(tmp_path / "out"), "--title", "\udcff title"]) == 0
        assert "? title" in Path(capsys.readouterr().out.strip()).read_text()

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_numbers_of_any_precision_are_taken_and_missing_ones_too(self, dtype: type) -> None:
        column: Any = np.array([1, -2, np.nan, np.inf], dtype)
        assert SynapseTable.of({"a": column}).n == 4

    def test_numbers_that_cannot_be_computed_with_are_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table = tmp_path / "table.csv"
        table.write_text("a,b\n1e308,2\n-1e308,4\n")
        assert pymeda_driver.main([str(table), "--out", str(tmp_path / "out")]) == 65
        assert "ERROR column 'a': it holds numbers as large as 1e+308" in capsys.readouterr().err

    @pytest.mark.parametrize("words", [["--out", ""], ["--out"], []])
    def test_a_folder_that_is_not_named_is_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
    ) -> None:
        table = tmp_path / "table.csv"
        table.write_text("a,b\n1,2\n")
        assert pymeda_driver.main([str(table), *words]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1

    def test_of_thousands_of_columns_the_first_are_drawn_and_the_page_says_so(self) -> None:
        from nd_synapse.report.checks import checks
        from nd_synapse.report.facts import RunFacts
        from nd_synapse.report.table import standardise

        table = SynapseTable.of(
            {f"c{n}": [1.0, 2.0, 4.0 + n] for n in range(3000)} | {f"in_{n}": [1, 0, 1] for n in range(50)}
        )
        assert list(table.channels) == [f"c{n}" for n in range(64)]
        found = checks(table, standardise(list(table.channels), table.brightness()), RunFacts())
        said = [sentence for check in found for sentence in check.more]
        assert "2,936 further channels of the table are not drawn: the figures show the first 64." in said
        assert "34 further masks of the table are not drawn: the figures show the first 16." in said
