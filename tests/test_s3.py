"""Uploads to S3, with a real server over HTTP and through a proxy that refuses requests."""

from __future__ import annotations

import io
import json
import shutil
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import get_session

from nd_synapse.aws import bucket, connection
from nd_synapse.aws.bucket import Bucket, check_bucket
from nd_synapse.aws.errors import meaning_in_s3
from nd_synapse.errors import (
    NDSynapseError,
    PermissionDeniedError,
    StorageError,
    UnavailableError,
    UnknownNameError,
    UsageError,
)
from nd_synapse.job.upload import compare_folder, upload_folder
from tests.faults.faulty_s3 import Forwarding, Plan, Rule, through_proxy

if TYPE_CHECKING:
    from tests.fixtures_s3 import S3Server

pytest_plugins = ["tests.fixtures_s3"]

PREFIX = "nomads-unsupervised_collman_M247514_z_0_8_y_0_64_x_0_64"
Refusal = Callable[[str, str], int | None]
"""From method and path to the status that is answered instead of S3, or None."""
Faulty = Callable[[Refusal], AbstractContextManager[list[tuple[str, str]]]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A result folder as a job leaves it."""
    root = tmp_path / PREFIX
    (root / "report" / "plots").mkdir(parents=True)
    (root / ".work").mkdir()
    (root / ".work" / "block_0.npy").write_bytes(b"scratch")
    (root / ".synapses.csv.17.part").write_bytes(b"half")
    for name, text in {
        "NDVIS_links.csv": "All,http://example.org/\n",
        "job.log": "started\n",
        "nomads-unsupervised-predictions.pkl": "pickle",
        "nomads-unsupervised-predictions.ome.tiff": "tiff",
        "report/index.html": "<!doctype html>",
        "report/plots/size.png": "png",
        "run.json": "{}",
        "synapses.csv": "id\n1\n",
    }.items():
        (root / name).write_text(text)
    return root


class _Proxy(Forwarding):
    """Passes requests on to S3, except those that the test refuses."""

    refusal: Refusal
    seen: list[tuple[str, str]]

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((self.command, self.path))
        status = type(self).refusal(self.command, self.path)
        if status is None:
            self.answer(*self.forward(body))
            return
        code = {403: "AccessDenied", 503: "SlowDown"}.get(status, "Other")
        self.answer(status, {}, f"<Error><Code>{code}</Code><Message>as requested</Message></Error>".encode())

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815 - the names are http.server's


@pytest.fixture
def faulty_s3(s3_env: S3Server, monkeypatch: pytest.MonkeyPatch) -> Faulty:
    """A context in which the server refuses what the test says; gives the list of the requests seen."""

    @contextmanager
    def refusing(refusal: Refusal) -> Iterator[list[tuple[str, str]]]:
        seen: list[tuple[str, str]] = []
        handler = type("Proxy", (_Proxy,), {"upstream": s3_env.url, "refusal": staticmethod(refusal), "seen": seen})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, monkeypatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield seen
            finally:
                server.shutdown()
                thread.join()

    return refusing


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two attempts instead of four: the waits between them are botocore's, not ours."""
    retries = {"retries": {"mode": "standard", "total_max_attempts": 2}}
    monkeypatch.setattr(connection, "_CONFIG", connection._CONFIG.merge(Config(**retries)))


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


@pytest.mark.parametrize(("status", "error"), [(403, PermissionDeniedError), (503, UnavailableError)])
@pytest.mark.usefixtures("hurried")
def test_an_upload_that_fails_in_the_middle_is_resumed_by_the_same_call(
    s3_env: S3Server, folder: Path, faulty_s3: Faulty, status: int, error: type[NDSynapseError]
) -> None:
    """What is up stays up and is not sent twice; run.json is absent until all is there."""
    s3_env.client().create_bucket(Bucket="results")
    refused = f"/results/{PREFIX}/nomads-unsupervised-predictions.pkl"

    refusal = lambda method, path: status if method == "PUT" and path.startswith(refused) else None  # noqa: E731
    with faulty_s3(refusal), pytest.raises(error) as caught:
        upload_folder(folder, "results", PREFIX)

    message = str(caught.value)
    assert f"s3://results/{PREFIX}/nomads-unsupervised-predictions.pkl" in message
    assert f"nd-synapse upload {folder} --bucket results" in message
    assert caught.value.__cause__ is not None
    assert len(s3_env.keys("results")) == 3
    assert f"{PREFIX}/run.json" not in s3_env.keys("results")

    assert [one.sent for one in upload_folder(folder, "results", PREFIX)] == [False] * 3 + [True] * 5
    assert len(s3_env.keys("results")) == 8


def test_a_transient_failure_is_retried(s3_env: S3Server, folder: Path, faulty_s3: Faulty) -> None:
    s3_env.client().create_bucket(Bucket="results")
    statuses = iter([503])

    with faulty_s3(lambda method, path: next(statuses, None) if method == "PUT" else None):
        assert len(upload_folder(folder, "results", PREFIX)) == 8


def test_a_role_that_may_only_put_objects_suffices(
    s3_env: S3Server, folder: Path, faulty_s3: Faulty, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the right to list, S3 answers every HEAD with 403; the job's role has no more rights than it needs."""
    s3_env.client().create_bucket(Bucket="results")

    with faulty_s3(lambda method, path: None if method == "PUT" else 403):
        assert all(one.sent for one in upload_folder(folder, "results", PREFIX))

    assert len(s3_env.keys("results")) == 8
    assert "stays until this one ends" in caplog.text, "an earlier run.json could not be withdrawn, if there was one"


def test_an_outdated_run_json_that_may_not_be_seen_is_withdrawn(
    s3_env: S3Server, folder: Path, faulty_s3: Faulty
) -> None:
    """A role without the right to list gets 403 for every HEAD; an upload that then fails leaves no run.json."""
    upload_folder(folder, "results", PREFIX)
    (folder / "synapses.csv").write_text("id\n2\n")

    def refusal(method: str, path: str) -> int | None:
        return 403 if method == "HEAD" or (method == "PUT" and "synapses.csv" in path) else None

    with faulty_s3(refusal), pytest.raises(PermissionDeniedError):
        upload_folder(folder, "results", PREFIX)

    assert f"{PREFIX}/run.json" not in s3_env.keys("results")
    assert f"{PREFIX}/synapses.csv" in s3_env.keys("results")


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_a_missing_bucket_is_created_private_in_the_region_of_the_environment(
    s3_env: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch, region: str
) -> None:
    """us-east-1 refuses to be named as a LocationConstraint, every other region must be."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    upload_folder(folder, "results", PREFIX)

    client = s3_env.client(region)
    location = client.get_bucket_location(Bucket="results")["LocationConstraint"]
    assert location == (None if region == "us-east-1" else region)
    assert all(client.get_public_access_block(Bucket="results")["PublicAccessBlockConfiguration"].values())


def test_a_new_bucket_is_closed_to_the_public_though_the_answer_to_its_creation_was_lost(
    s3_env: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore asks once more, and S3 answers that the bucket is there already."""
    with through_proxy(s3_env) as faulty:
        # in us-east-1, it would be told that all is well
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        faulty.plan = Plan([Rule("lost answer", to=r"PUT /results(\?|/?$)")])
        upload_folder(folder, "results", PREFIX)
        assert faulty.plan.hits == {"lost answer": 1}
    client = s3_env.client("eu-central-1")
    assert all(client.get_public_access_block(Bucket="results")["PublicAccessBlockConfiguration"].values())


@pytest.mark.parametrize(
    ("bucket_may_go", "left"), [(True, "was deleted again"), (False, "is still there: delete it")], ids=["gone", "left"]
)
def test_a_new_bucket_that_cannot_be_closed_gets_no_file(
    s3_env: S3Server, folder: Path, faulty_s3: Faulty, bucket_may_go: bool, left: str
) -> None:
    """A bucket left open would be found by the next call, and used as it is."""

    def refusal(method: str, path: str) -> int | None:
        closing = "publicAccessBlock" in path
        return 403 if closing or (method == "DELETE" and not bucket_may_go) else None

    with faulty_s3(refusal) as seen, pytest.raises(PermissionDeniedError, match="bucket results") as caught:
        upload_folder(folder, "results", PREFIX)

    assert "s3:PutBucketPublicAccessBlock" in str(caught.value)
    assert left in str(caught.value)
    assert f"nd-synapse upload {folder} --bucket results" in str(caught.value)
    assert not any(PREFIX in path for _, path in seen)
    names = [entry["Name"] for entry in s3_env.client().list_buckets()["Buckets"]]
    assert names == ([] if bucket_may_go else ["results"])


def test_an_existing_bucket_is_used_as_it_is(s3_env: S3Server, folder: Path, faulty_s3: Faulty) -> None:
    """Creating one's own bucket again resets its ACLs in us-east-1."""
    s3_env.client().create_bucket(Bucket="results")
    with faulty_s3(lambda method, path: None) as seen:
        upload_folder(folder, "results", PREFIX)
    assert not any(method == "PUT" and path.rstrip("/").count("/") == 1 for method, path in seen)


def _everyone(client: Any, key: str) -> list[str]:
    grants = client.get_object_acl(Bucket="results", Key=key)["Grants"]
    return [grant["Permission"] for grant in grants if "AllUsers" in grant["Grantee"].get("URI", "")]


def test_objects_are_private_unless_an_acl_is_requested(s3_env: S3Server, folder: Path) -> None:
    client = s3_env.client()
    client.create_bucket(Bucket="results")

    upload_folder(folder, "results", "private")
    upload_folder(folder, "results", "public", acl="public-read")

    assert _everyone(client, "private/run.json") == []
    assert _everyone(client, "public/run.json") == ["READ"]


@pytest.mark.parametrize(
    "prefix",
    ["a b+c%20d=&?x#y'(1)!*", "Großhirn_ä_海馬/deep/er"],
    ids=["signs", "unicode and slashes"],
)
def test_a_prefix_with_unusual_characters_is_kept_as_it_is(s3_env: S3Server, folder: Path, prefix: str) -> None:
    upload_folder(folder, "results", prefix)
    assert f"{prefix}/report/index.html" in s3_env.keys("results")
    assert not any(one.sent for one in upload_folder(folder, "results", prefix))


@pytest.mark.parametrize("prefix", ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "a\nb", "a\x00b"])
def test_a_prefix_that_could_lead_elsewhere_is_refused(folder: Path, prefix: str) -> None:
    with pytest.raises(UsageError, match="key prefix"):
        upload_folder(folder, "results", prefix)


@pytest.mark.parametrize(
    "bucket",
    ["ab", "a" * 64, "Results", "s3://results", "a..b", "192.168.5.4"],
)
def test_a_name_that_no_bucket_has_is_refused_before_any_call(
    folder: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, s3_nowhere: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_nowhere)
    with pytest.raises(UsageError, match="no bucket has such a name") as caught:
        upload_folder(folder, bucket, PREFIX)
    assert f"nd-synapse upload {folder} --bucket NAME" in str(caught.value)
    with pytest.raises(UsageError, match="no bucket has such a name"):
        check_bucket(bucket, None)


def test_an_unknown_acl_is_refused_with_those_that_exist(s3_env: S3Server, folder: Path) -> None:
    with pytest.raises(UsageError, match="public-read"):
        upload_folder(folder, "results", PREFIX, acl="everybody")
    with pytest.raises(UsageError, match="public-read"):
        check_bucket("results", "everybody")


def test_every_acl_that_the_client_knows_is_taken() -> None:
    known = get_session().get_service_model("s3").shape_for("ObjectCannedACL").enum
    assert sorted(known) == sorted(bucket._ACLS)
    for acl in (None, *known):
        check_bucket("results", acl)


def test_the_command_that_resumes_repeats_the_acl(s3_env: S3Server, folder: Path, faulty_s3: Faulty) -> None:
    with faulty_s3(lambda method, path: 403), pytest.raises(PermissionDeniedError) as caught:
        upload_folder(folder, "results", PREFIX, acl="public-read")
    assert f"upload {folder} --bucket results --acl public-read`" in str(caught.value)


def test_an_object_name_beyond_the_limit_of_s3_is_refused_before_any_call(folder: Path) -> None:
    with pytest.raises(UsageError, match="1024 bytes"):
        upload_folder(folder, "results", "é" * 512)


def test_a_file_name_that_is_no_text_is_refused_before_any_call(folder: Path) -> None:
    Path(folder, b"plot\xff.png".decode(errors="surrogateescape")).write_bytes(b"")
    with pytest.raises(UsageError, match="UTF-8"):
        upload_folder(folder, "results", PREFIX)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file in it"):
        upload_folder(tmp_path, "results", PREFIX)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        upload_folder(tmp_path / "nowhere", "results", PREFIX)


def test_symbolic_links_are_not_followed(s3_env: S3Server, folder: Path, tmp_path: Path) -> None:
    """A link in a result folder could carry any file of the machine into a bucket."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("token")
    (folder / "link").symlink_to(tmp_path / "outside" / "secret")
    (folder / "linked").symlink_to(tmp_path / "outside")

    upload_folder(folder, "results", PREFIX)

    assert not any("link" in key.removeprefix(PREFIX).replace("NDVIS_links", "") for key in s3_env.keys("results"))


def test_a_file_that_changes_while_it_is_sent_is_an_error(s3_env: S3Server, folder: Path, faulty_s3: Faulty) -> None:
    s3_env.client().create_bucket(Bucket="results")

    def change(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("synapses.csv"):
            (folder / "synapses.csv").write_text("id\n1\n2\n")

    with faulty_s3(change), pytest.raises(StorageError, match="changed during the upload"):
        upload_folder(folder, "results", PREFIX)
    assert f"{PREFIX}/run.json" not in s3_env.keys("results")


def test_no_credentials_is_a_permission_error(s3_env: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(PermissionDeniedError, match="Unable to locate credentials"):
        upload_folder(folder, "results", PREFIX)


@pytest.mark.usefixtures("s3_env", "hurried")
def test_a_server_that_is_not_there_is_unavailable(
    folder: Path, monkeypatch: pytest.MonkeyPatch, s3_nowhere: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_nowhere)
    with pytest.raises(UnavailableError, match="looking for the bucket results: Could not connect"):
        upload_folder(folder, "results", PREFIX)


@pytest.mark.usefixtures("s3_env")
@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_ENDPOINT_URL", "not a url"), ("AWS_PROFILE", "nobody"), ("AWS_DEFAULT_REGION", "no where")],
)
def test_a_wrong_setting_of_aws_is_a_usage_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as caught:
        upload_folder(folder, "results", PREFIX)
    assert f"nd-synapse upload {folder} --bucket results" in str(caught.value)


@pytest.mark.usefixtures("s3_env", "hurried")
@pytest.mark.parametrize("form", ["http://me:pass phrase@{}", "http://me:pass/phrase@{}", "me:passphrase@{}"])
def test_a_password_in_the_address_of_s3_is_not_repeated(
    folder: Path, monkeypatch: pytest.MonkeyPatch, s3_nowhere: str, form: str
) -> None:
    address = s3_nowhere.removeprefix("http://")
    monkeypatch.setenv("AWS_ENDPOINT_URL", form.format(address))
    with pytest.raises(NDSynapseError, match=rf"\*\*\*@{address}") as caught:
        upload_folder(folder, "results", PREFIX)
    assert "phrase" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("AccessDenied", 403, PermissionDeniedError),
        ("InvalidAccessKeyId", 403, PermissionDeniedError),
        ("SignatureDoesNotMatch", 403, PermissionDeniedError),
        ("ExpiredToken", 400, PermissionDeniedError),
        ("BucketAlreadyExists", 409, PermissionDeniedError),
        ("SlowDown", 503, UnavailableError),
        ("InternalError", 500, UnavailableError),
        ("TooManyRequests", 429, UnavailableError),
        ("RequestTimeout", 400, UnavailableError),
        ("BadDigest", 400, UnavailableError),
        ("XAmzContentChecksumMismatch", 400, UnavailableError),
        ("400", 400, PermissionDeniedError),
        ("NoSuchBucket", 404, UnknownNameError),
        ("AccessControlListNotSupported", 400, UsageError),
        ("IllegalLocationConstraintException", 400, UsageError),
    ],
)
def test_each_answer_of_s3_has_one_class(code: str, status: int, error: type[NDSynapseError]) -> None:
    kind, found, hint = meaning_in_s3(
        ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")
    )
    assert kind is error
    assert code in found
    assert hint


def test_the_secret_key_is_in_no_message(
    s3_env: S3Server, folder: Path, faulty_s3: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t-of-the-test")
    with faulty_s3(lambda method, path: 403), pytest.raises(PermissionDeniedError) as caught:
        upload_folder(folder, "results", PREFIX)
    assert "s3cr3t-of-the-test" not in json.dumps([str(caught.value), repr(caught.value.__cause__)])
