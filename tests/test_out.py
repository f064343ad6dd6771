"""``--out``: labels, mask and points in another folder, in S3, or as a precomputed segmentation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import zarr

import driver
from nd_synapse.errors import UsageError
from nd_synapse.job import out, steps
from nd_synapse.job.places import Target
from tests.fixtures_s3 import S3Server
from tests.volumes_on_disk import SIZE_NM
from tests.volumes_with_puncta import run, write_blobs

PART = ("--z-range", "1,7", "--y-range", "5,70", "--x-range", "8,90")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blobs(tmp_path_factory.mktemp("out") / "volume.zarr")


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def run_json(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return content


def ids_in(folder: Path, level: int = 0) -> np.ndarray:
    return np.asarray(zarr.open_array(folder / f"synapses.ome.zarr/labels/synapses/{level}", mode="r"))


def verified(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    driver.main(["verify", str(folder), "--sample", "0", "--quiet"])
    return {line.split()[1]: line for line in capsys.readouterr().out.splitlines()}


def put(server: S3Server, folder: Path, bucket: str, prefix: str) -> None:
    """Copy a folder to S3."""
    server.client().create_bucket(Bucket=bucket)
    for name, body in files(folder).items():
        server.client().put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=body)


class TestFolder:
    """A folder of its own."""

    def test_it_holds_labels_mask_points_and_table_and_is_verified(
        self, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = run(source, tmp_path / "made", *PART, "--out", str(tmp_path / "lab"))
        there, made = files(tmp_path / "lab"), files(folder)
        note = json.loads(there.pop("nd-synapse.json"))
        assert note["complete"]
        assert set(note["files"]) == set(there)
        assert there == {name: made[name] for name in there}
        assert {name.partition("/")[0] for name in there} == {
            "synapses.ome.zarr", "synapses.annotations", "synapses.csv",
        }  # fmt: skip
        assert run_json(folder)["out"].endswith(f"/lab: {len(there)} files, read back and equal")
        assert verified(folder, capsys)["out"].startswith("ok   out")
        (tmp_path / "lab/synapses.csv").write_text("id\n")
        assert verified(folder, capsys)["out"].endswith("synapses.csv: its content differs")

    @pytest.mark.slow
    def test_another_run_of_the_job_replaces_its_own_files(self, source: Path, tmp_path: Path) -> None:
        run(source, tmp_path / "a", *PART, "--out", str(tmp_path / "lab"))
        before = files(tmp_path / "lab")
        note = json.loads(before["nd-synapse.json"])
        (tmp_path / "lab/old").write_text("of a run that had more files, and was killed")
        note |= {"complete": False, "files": [*note["files"], "old"]}
        (tmp_path / "lab/nd-synapse.json").write_text(json.dumps(note))
        run(source, tmp_path / "b", *PART, "--out", str(tmp_path / "lab"), "--param", "min_voxels=500")
        assert sorted(files(tmp_path / "lab")) != sorted(before)
        run(source, tmp_path / "c", *PART, "--out", str(tmp_path / "lab"))
        assert files(tmp_path / "lab") == before

    def test_a_note_that_lists_files_elsewhere_removes_none_of_them(self, source: Path, tmp_path: Path) -> None:
        (tmp_path / "mine").write_text("mine")
        run(source, tmp_path / "a", *PART, "--out", str(tmp_path / "lab"))
        note = json.loads((tmp_path / "lab/nd-synapse.json").read_text())
        note["files"] += ["../mine", str(tmp_path / "mine")]
        (tmp_path / "lab/nd-synapse.json").write_text(json.dumps(note))
        run(source, tmp_path / "b", *PART, "--out", str(tmp_path / "lab"))
        assert (tmp_path / "mine").read_text() == "mine"
        assert "../mine" not in json.loads((tmp_path / "lab/nd-synapse.json").read_text())["files"]

    @pytest.mark.parametrize(
        ("there", "found"),
        [
            ({"notes.txt": "mine"}, "it has files that no run of this job left there: notes.txt"),
            ({"nd-synapse.json": "{}"}, "it has files that no run of this job left there: nd-synapse.json"),
            (
                {"nd-synapse.json": '{"schema": "nd-synapse/out/1", "job": "another", "files": []}'},
                "it has the results of another",
            ),
            (None, "it is a file"),
        ],
    )
    def test_what_is_not_its_own_is_refused_before_a_voxel_is_read(
        self,
        source: Path,
        tmp_path: Path,
        there: dict[str, str] | None,
        found: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        lab = tmp_path / "lab"
        if there is None:
            lab.write_text("")
        else:
            lab.mkdir()
            for name, text in there.items():
                (lab / name).write_text(text)
        monkeypatch.setattr(steps, "detect", lambda *_args, **_more: pytest.fail("it was read"))
        words = ["--source", str(source), "--path", str(tmp_path / "made"), *PART, "--out", str(lab), "--quiet"]
        for more in ([], ["--dry-run"]):
            assert driver.main([*words, *more]) == 2
            assert found in caplog.text
        assert there is None or {path.name for path in lab.iterdir()} == set(there)

    def test_a_place_in_the_result_folder_is_refused(self, source: Path, tmp_path: Path, caplog: Any) -> None:
        first = run(source, tmp_path, *PART)
        words = ["--source", str(source), "--path", str(tmp_path), *PART, "--out", str(first / "lab"), "--quiet"]
        assert driver.main(words) == 2
        assert "it lies in the result folder" in caplog.text

    def test_a_place_that_may_not_be_written_ends_the_job_before_the_work(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
    ) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("nd_synapse.job.places.shutil.copyfileobj", refuse)
        monkeypatch.setattr(steps, "detect", lambda *_args, **_more: pytest.fail("it was read"))
        words = ["--source", str(source), "--path", str(tmp_path / "made"), *PART, "--out", str(tmp_path / "lab")]
        assert driver.main([*words, "--quiet"]) == 74
        assert "writing nd-synapse.json in --out" in caplog.text

    def test_what_is_not_what_was_written_is_a_failed_delivery(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The other deliveries are made, and the exit code says so."""
        monkeypatch.setattr(out, "compare", lambda *_: "synapses.csv: its content differs")
        words = ["--source", str(source), "--path", str(tmp_path / "made"), *PART, "--no-plots", "--no-upload"]
        assert driver.main([*words, "--out", str(tmp_path / "lab"), "--quiet"]) == 69
        (folder,) = (tmp_path / "made").iterdir()
        assert run_json(folder)["out"] == "failed"
        assert "synapses.csv: its content differs" in run_json(folder)["failures"][0]
        assert not json.loads((tmp_path / "lab/nd-synapse.json").read_text())["complete"]


class TestS3:
    """A prefix in a bucket."""

    @pytest.mark.slow
    def test_in_parts_from_a_zarr_in_s3_to_a_zarr_in_s3(
        self, source: Path, tmp_path: Path, s3_env: S3Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """No BOSS, and no volume on this machine; the result is that of one job."""
        single = run(source, tmp_path / "single", *PART, "--name", "slice")
        put(s3_env, source, "lab", "in/slice.zarr")
        words = ["--source", "s3://lab/in/slice.zarr", *PART, "--name", "slice", "--out", "s3://lab/out"]
        words += ["--shared", "s3://lab/shared", "--block-size", "4,32,64", "--no-plots", "--no-upload", "--quiet"]
        for phase in ("statistics", "detection"):
            for shard in "01":
                part = [
                    "--path",
                    str(tmp_path / f"{phase}{shard}"),
                    "--phase",
                    phase,
                    "--shards",
                    "2",
                    "--shard",
                    shard,
                ]
                assert driver.main([*words, *part]) == 0
        assert not [key for key in s3_env.keys("lab") if key.startswith("out/")]
        last = tmp_path / "last"
        assert driver.main([*words, "--phase", "report", "--path", str(last)]) == 0
        (folder,) = last.iterdir()
        made = {name: body for name, body in files(single).items() if name.startswith(("synapses.ome", "synapses.a"))}
        client = s3_env.client()
        for name, body in made.items():
            assert client.get_object(Bucket="lab", Key=f"out/{name}")["Body"].read() == body
        assert verified(folder, capsys)["out"].startswith("ok   out     s3://lab/out has what the folder has")
        client.delete_object(Bucket="lab", Key="out/synapses.csv")
        client.put_object(Bucket="lab", Key="out/more", Body=b"")
        assert verified(folder, capsys)["out"].endswith("synapses.csv: it is missing; more: not of this run")

    @pytest.mark.parametrize(
        ("bucket", "key", "found"),
        [
            ("no-such-bucket", None, "no-such-bucket"),
            ("lab", "out/notes", "left there: notes"),
            ("lab", "out2/notes", ""),
        ],
    )
    def test_what_is_there_is_refused_before_the_work(
        self, source: Path, tmp_path: Path, s3_env: S3Server, bucket: str, key: str | None, found: str, caplog: Any
    ) -> None:
        s3_env.client().create_bucket(Bucket="lab")
        if key:
            s3_env.client().put_object(Bucket="lab", Key=key, Body=b"mine")
        words = ["--source", str(source), "--path", str(tmp_path), *PART, "--out", f"s3://{bucket}/out", "--dry-run"]
        assert driver.main([*words, "--quiet"]) == (2 if found else 0)
        assert found in caplog.text


class TestPrecomputed:
    """A segmentation of neuroglancer."""

    def test_it_is_the_labels_at_every_level_and_lies_where_they_do(
        self, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("nd_synapse.files.multiscale._PLANE", 30)
        lab = tmp_path / "lab"
        folder = run(source, tmp_path / "made", *PART, "--out", f"precomputed://{lab}")
        info = json.loads((lab / "info").read_text())
        assert (info["type"], info["data_type"], len(info["scales"])) == ("segmentation", "uint32", 3)
        assert info["scales"][0]["voxel_offset"] == [8, 5, 1]
        assert info["scales"][0]["resolution"] == list(SIZE_NM[::-1])
        for level in range(3):
            spec = {"driver": "neuroglancer_precomputed", "kvstore": f"file://{lab}/", "scale_index": level}
            found = tensorstore.open(spec).result()
            ids = ids_in(folder, level)
            assert found.domain.origin[:3] == tuple(n >> level for n in (8, 5, 1))
            np.testing.assert_array_equal(found.read().result()[..., 0].T, ids)
        assert verified(folder, capsys)["out"].startswith("ok   out")
        shutil.rmtree(lab / "100_100_70")
        assert "it is missing" in verified(folder, capsys)["out"]

    def test_it_goes_to_s3_too(self, source: Path, tmp_path: Path, s3_env: S3Server) -> None:
        s3_env.client().create_bucket(Bucket="lab")
        run(source, tmp_path / "made", *PART, "--out", "precomputed://s3://lab/seg")
        run(source, tmp_path / "again", *PART, "--out", f"precomputed://{tmp_path / 'seg'}")
        assert set(s3_env.keys("lab")) == {f"seg/{name}" for name in files(tmp_path / "seg")}


@pytest.mark.parametrize(
    "uri", ["", "s3://lab", "s3://lab/", "s3://lab/../x", "gs://lab/x", "https://host/x", "precomputed://gs://a/b"]
)
def test_a_place_that_cannot_be_written_is_refused_by_its_name(uri: str) -> None:
    with pytest.raises(UsageError, match="--out"):
        Target.of(uri)


def test_a_folder_is_known_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Target.of("precomputed://lab").uri == f"precomputed://{tmp_path}/lab"
    assert Target.of("file:///lab").where == "/lab"
    assert Target.of("s3://lab/x/").uri == "s3://lab/x"
