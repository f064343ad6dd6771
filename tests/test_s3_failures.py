"""What S3 refuses or cannot do ends an upload with a sentence, and the same call goes on."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from nd_synapse.aws.errors import meaning_in_s3
from nd_synapse.errors import (
    NDSynapseError,
    PermissionDeniedError,
    StorageError,
    UnavailableError,
    UnknownNameError,
    UsageError,
)
from nd_synapse.job.upload import upload_folder
from tests.uploads import PREFIX, Faulty, faulty_s3, folder, hurried

if TYPE_CHECKING:
    from tests.fixtures_s3 import S3Server

__all__ = ["faulty_s3", "folder", "hurried"]


@pytest.mark.parametrize(("status", "error"), [(403, PermissionDeniedError), (503, UnavailableError)])
@pytest.mark.usefixtures("hurried")
def test_an_upload_that_fails_in_the_middle_is_resumed_by_the_same_call(
    s3_env: S3Server, folder: Path, faulty_s3: Faulty, status: int, error: type[NDSynapseError]
) -> None:
    """What is up stays up and is not sent twice; run.json is absent until all is there."""
    s3_env.client().create_bucket(Bucket="results")
    refused = f"/results/{PREFIX}/nomads-unsupervised-predictions.pkl"

    def refusal(method: str, path: str) -> int | None:
        return status if method == "PUT" and path.startswith(refused) else None

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


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file in it"):
        upload_folder(tmp_path, "results", PREFIX)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        upload_folder(tmp_path / "nowhere", "results", PREFIX)


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
