"""Bucket and prefix of an upload: private unless requested otherwise, and no invalid name reaches S3."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.session import get_session

from nd_synapse.aws import bucket
from nd_synapse.aws.bucket import check_bucket
from nd_synapse.errors import PermissionDeniedError, UsageError
from nd_synapse.job.upload import upload_folder
from tests.faults.faulty_s3 import Plan, Rule, through_proxy
from tests.uploads import PREFIX, Faulty, faulty_s3, folder

if TYPE_CHECKING:
    from tests.fixtures_s3 import S3Server

__all__ = ["faulty_s3", "folder"]


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
