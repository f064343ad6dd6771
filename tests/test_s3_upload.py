"""After an upload, S3 holds what the folder holds, and `run.json` only if all of it is there."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nd_synapse.aws.bucket import Bucket
from nd_synapse.errors import StorageError, UsageError
from nd_synapse.job.upload import compare_folder, upload_folder
from tests.uploads import PREFIX, Faulty, faulty_s3, folder

if TYPE_CHECKING:
    from tests.fixtures_s3 import S3Server

__all__ = ["faulty_s3", "folder"]


def test_every_deliverable_file_is_uploaded_below_the_prefix_and_nothing_else(s3_env: S3Server, folder: Path) -> None:
    """Scratch and half-written files never leave the machine."""
    s3_env.client().create_bucket(Bucket="results")

    done = upload_folder(folder, "results", PREFIX)

    wanted = {
        "NDVIS_links.csv",
        "job.log",
        "nomads-unsupervised-predictions.ome.tiff",
        "nomads-unsupervised-predictions.pkl",
        "report/index.html",
        "report/plots/size.png",
        "run.json",
        "synapses.csv",
    }
    assert set(s3_env.keys("results")) == {f"{PREFIX}/{name}" for name in wanted} == {one.key for one in done}
    assert all(one.sent for one in done)
    for one in done:
        content = s3_env.client().get_object(Bucket="results", Key=one.key)["Body"].read()
        assert content == (folder / one.key.removeprefix(f"{PREFIX}/")).read_bytes()


def test_content_types_let_the_report_open_in_a_browser(s3_env: S3Server, folder: Path) -> None:
    wanted = {
        "report/index.html": "text/html; charset=utf-8",
        "report/plots/size.png": "image/png",
        "synapses.csv": "text/csv; charset=utf-8",
        "run.json": "application/json",
        "nomads-unsupervised-predictions.ome.tiff": "image/tiff",
        "nomads-unsupervised-predictions.pkl": "application/octet-stream",
        "job.log": "text/plain; charset=utf-8",
    }
    upload_folder(folder, "results", PREFIX)
    client = s3_env.client()
    assert wanted == {
        name: client.head_object(Bucket="results", Key=f"{PREFIX}/{name}")["ContentType"] for name in wanted
    }


def test_a_file_of_many_parts_arrives_whole_and_is_known_again(s3_env: S3Server, folder: Path) -> None:
    """S3's own SHA-256 of a multipart object is one of checksums."""
    mask = folder / "nomads-unsupervised-predictions.pkl"
    mask.write_bytes(bytes(range(256)) * (20 * 2**20 // 256))

    upload_folder(folder, "results", PREFIX)

    key = f"{PREFIX}/{mask.name}"
    assert s3_env.client().get_object(Bucket="results", Key=key)["Body"].read() == mask.read_bytes()
    assert s3_env.client().head_object(Bucket="results", Key=key)["ETag"].strip('"').endswith("-3")
    assert not any(one.sent for one in upload_folder(folder, "results", PREFIX))


def test_a_second_upload_sends_only_what_changed_and_run_json_is_away_meanwhile(
    folder: Path, faulty_s3: Faulty, s3_env: S3Server
) -> None:
    """A reader who waits for run.json never sees it beside files of another run."""
    upload_folder(folder, "results", PREFIX)
    (folder / "synapses.csv").write_text("id\n2\n")  # as long as before: the size alone must not decide

    with faulty_s3(lambda method, path: None) as seen:
        sent = [one.key for one in upload_folder(folder, "results", PREFIX) if one.sent]

    assert sent == [f"{PREFIX}/synapses.csv", f"{PREFIX}/run.json"]
    changes = [(method, path.rpartition("/")[2].partition("?")[0]) for method, path in seen]
    changes = [change for change in changes if change[0] not in ("HEAD", "GET")]
    assert changes == [("DELETE", "run.json"), ("PUT", "synapses.csv"), ("PUT", "run.json")]


def _said(folder: Path, *names: str, experiment: str = "M247514") -> None:
    """Give a folder a run.json that lists files."""
    requested = {"collection": "collman", "experiment": experiment}
    said = {"schema": "nd-synapse/run/1", "asked": requested, "files": {name: {} for name in names}}
    (folder / "run.json").write_text(json.dumps(said))


def _altered(s3_env: S3Server, name: str, body: bytes, **more: str) -> None:
    """Change the bytes of an object, and nothing that it says of itself."""
    place = {"Bucket": "results", "Key": f"{PREFIX}/{name}"}
    before = s3_env.client().head_object(**place)["Metadata"]
    s3_env.client().put_object(**place, Body=body, Metadata=before, **more)


@pytest.mark.parametrize("more", [{}, {"ChecksumAlgorithm": "SHA256"}], ids=["another checksum", "the same kind"])
def test_content_that_changed_under_the_same_metadata_is_sent_again(
    s3_env: S3Server, folder: Path, more: dict[str, str]
) -> None:
    upload_folder(folder, "results", PREFIX)
    _altered(s3_env, "synapses.csv", b"id\n9\n", **more)
    assert list(compare_folder(folder, "results", PREFIX)) == [f"{PREFIX}/synapses.csv"]

    sent = [one.key for one in upload_folder(folder, "results", PREFIX) if one.sent]
    assert sent == [f"{PREFIX}/synapses.csv", f"{PREFIX}/run.json"]
    assert compare_folder(folder, "results", PREFIX) == {}


@pytest.mark.slow
def test_a_part_that_changed_under_the_same_metadata_is_sent_again(s3_env: S3Server, folder: Path) -> None:
    mask = folder / "nomads-unsupervised-predictions.pkl"
    mask.write_bytes(bytes(17 * 2**20))
    upload_folder(folder, "results", PREFIX)
    content = bytearray(mask.read_bytes())
    content[-1] = 1
    before = s3_env.client().head_object(Bucket="results", Key=f"{PREFIX}/{mask.name}")["Metadata"]
    extra = {"Metadata": before, "ChecksumAlgorithm": "SHA256"}
    s3_env.client().upload_fileobj(io.BytesIO(content), "results", f"{PREFIX}/{mask.name}", ExtraArgs=extra)

    sent = [one.key for one in upload_folder(folder, "results", PREFIX) if one.sent]
    assert sent == [f"{PREFIX}/{mask.name}", f"{PREFIX}/run.json"]


@pytest.mark.slow
def test_a_log_that_a_refused_command_added_to_is_no_other_log(s3_env: S3Server, folder: Path) -> None:
    upload_folder(folder, "results", PREFIX)
    with (folder / "job.log").open("a") as log:
        log.write("refused\n")
    assert compare_folder(folder, "results", PREFIX) == {}

    (folder / "job.log").write_text("Started\nrefused\n")
    assert compare_folder(folder, "results", PREFIX) == {f"{PREFIX}/job.log": "its content differs"}
    (folder / "job.log").write_text("start")
    assert "the file has 5" in compare_folder(folder, "results", PREFIX)[f"{PREFIX}/job.log"]


def test_what_an_earlier_run_left_and_a_new_one_lacks_goes_with_the_run_json_that_lists_it(
    s3_env: S3Server, folder: Path, faulty_s3: Faulty
) -> None:
    """A run with plots, and the same one without; what no run.json of ours lists is somebody's."""
    _said(folder, "report/index.html", "report/plots/size.png", "synapses.csv")
    upload_folder(folder, "results", PREFIX)
    s3_env.client().put_object(Bucket="results", Key=f"{PREFIX}/notes.txt", Body=b"mine")
    shutil.rmtree(folder / "report")
    _said(folder, "synapses.csv")

    with faulty_s3(lambda method, path: None) as seen:
        assert [one.key for one in upload_folder(folder, "results", PREFIX) if one.sent] == [f"{PREFIX}/run.json"]

    changes = [(method, path.rpartition("/")[2].partition("?")[0]) for method, path in seen]
    changes = [change for change in changes if change[0] not in ("HEAD", "GET")]
    removed = [("DELETE", name) for name in ("run.json", "index.html", "size.png")]
    assert changes == [*removed, ("PUT", "run.json")]
    assert compare_folder(folder, "results", PREFIX) == {f"{PREFIX}/notes.txt": "the folder has no such file"}


def test_an_upload_whose_role_may_remove_nothing_names_what_stays(
    s3_env: S3Server, folder: Path, faulty_s3: Faulty, caplog: pytest.LogCaptureFixture
) -> None:
    _said(folder, "report/index.html", "synapses.csv")
    upload_folder(folder, "results", PREFIX)
    shutil.rmtree(folder / "report")
    _said(folder, "synapses.csv")

    with faulty_s3(lambda method, path: 403 if method == "DELETE" else None):
        upload_folder(folder, "results", PREFIX)

    assert f"to be deleted by you: {PREFIX}/report/index.html" in caplog.text
    assert f"{PREFIX}/report/index.html" in s3_env.keys("results")


def test_a_run_json_in_s3_takes_away_nothing_but_what_lies_below_its_prefix(s3_env: S3Server, folder: Path) -> None:
    """Anyone with access may write anything into it."""
    for key in ("other/a", f"{PREFIX}0/a", "a"):
        s3_env.client().create_bucket(Bucket="results")
        s3_env.client().put_object(Bucket="results", Key=key, Body=b"another's")
    upload_folder(folder, "results", PREFIX)
    before = set(s3_env.keys("results"))
    names = ["../other/a", "../a", "/a", "a//b", "", ".", "..", "x/../../other/a", "run.json", ".hidden", "a\nb", "\\"]
    other = folder.with_name("other")
    other.mkdir()
    _said(other, *names)
    s3_env.client().put_object(Bucket="results", Key=f"{PREFIX}/run.json", Body=(other / "run.json").read_bytes())
    _said(folder, "synapses.csv")
    upload_folder(folder, "results", PREFIX)
    assert set(s3_env.keys("results")) == before


def test_an_incomplete_folder_takes_nothing_away_from_a_whole_run(s3_env: S3Server, folder: Path) -> None:
    _said(folder, "report/index.html", "synapses.csv")
    upload_folder(folder, "results", PREFIX)
    for name in ("run.json", "report/index.html"):
        (folder / name).unlink()
    (folder / "synapses.csv").write_text("id\n2\n")
    with pytest.raises(UsageError, match=r"it has a complete run, and the folder has no run\.json"):
        upload_folder(folder, "results", PREFIX)
    held = s3_env.client().get_object(Bucket="results", Key=f"{PREFIX}/synapses.csv")["Body"].read()
    assert held == b"id\n1\n"
    assert f"{PREFIX}/run.json" in s3_env.keys("results")


def test_an_upload_that_another_one_overtakes_does_not_say_that_it_is_whole(
    s3_env: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_folder(folder, "results", PREFIX)
    (folder / "synapses.csv").write_text("id\n2\n")
    (folder / "run.json").write_text('{"a": 1}')
    send = Bucket.send

    def overtaken(self: Bucket, file: Path, *arguments: Any) -> None:
        send(self, file, *arguments)
        if file.name == "synapses.csv":
            s3_env.client().put_object(Bucket="results", Key=f"{PREFIX}/job.log", Body=b"of another run")

    monkeypatch.setattr(Bucket, "send", overtaken)
    with pytest.raises(StorageError, match=r"another upload writes there.*job\.log changed since"):
        upload_folder(folder, "results", PREFIX)
    assert f"{PREFIX}/run.json" not in s3_env.keys("results")


def test_a_run_of_another_experiment_with_the_same_key_is_left_alone(s3_env: S3Server, folder: Path) -> None:
    """The key of a_b/c is that of a/b_c."""
    _said(folder, "synapses.csv", experiment="M247514")
    upload_folder(folder, "results", PREFIX)
    _said(folder, "synapses.csv", experiment="another")
    for refused in (upload_folder, compare_folder):
        with pytest.raises(UsageError, match=r"a run of collman/M247514, the folder has one of collman/another"):
            refused(folder, "results", PREFIX)


def test_symbolic_links_are_not_followed(s3_env: S3Server, folder: Path, tmp_path: Path) -> None:
    """A link in a result folder could carry any file of the machine into a bucket."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("token")
    (folder / "link").symlink_to(tmp_path / "outside" / "secret")
    (folder / "linked").symlink_to(tmp_path / "outside")

    upload_folder(folder, "results", PREFIX)

    assert not any("link" in key.removeprefix(PREFIX).replace("NDVIS_links", "") for key in s3_env.keys("results"))
