"""S3: answers, keys, buckets, addresses of shelves, and what the environment says of AWS."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from batch.client import BatchClient
from nd_synapse.aws.bucket import check_bucket
from nd_synapse.aws.shared_store import S3SharedStore
from nd_synapse.errors import NDSynapseError
from nd_synapse.job import upload
from tests.batch.fixtures import SETTINGS
from tests.fuzz.cases import (
    ABSENT,
    half,
    mutated_bytes,
    names,
    numbers,
    one_wrong,
    sometimes,
    words,
)
from tests.fuzz.judge import Target, quietly
from tests.fuzz.targets.aws import ADDRESS, ANSWERS, OBJECTS, Cloud, answered, listed
from tests.fuzz.targets.batch_runs import run_batch
from tests.fuzz.targets.jobs import (
    bad_addresses,
    bad_buckets,
    buckets,
)

# --- S3 -----------------------------------------------------------------------------------------------------------

ERROR = "<Error><Code>{}</Code><Message>{}</Message></Error>"
CODES = [
    "AccessDenied",
    "NoSuchBucket",
    "NoSuchKey",
    "SlowDown",
    "InternalError",
    "ExpiredToken",
    "PermanentRedirect",
    "é",
]
s3_failures = st.tuples(
    st.sampled_from([301, 400, 403, 404, 409, 412, 429, 500, 503]),
    st.builds(ERROR.format, st.sampled_from(CODES), names).map(str.encode) | st.sampled_from([b"", b"<", b"{}"]),
)
s3_bodies = st.tuples(
    st.just(200), mutated_bytes([listed(OBJECTS, ""), b"<ListBucketResult></ListBucketResult>", b"x"])
)


@st.composite
def s3_answers(draw: st.DrawFn) -> tuple[str, Cloud]:
    use = draw(st.sampled_from(["names", "get", "put", "upload", "compare", "status"]))
    operations = {"names": ["LIST"], "get": ["GET"], "put": ["PUT"], "status": ["LIST", "GET"]}.get(
        use, ["HEAD", "PUT", "GET"]
    )
    odd_one = draw(st.booleans())
    instead = {draw(st.sampled_from(operations)): draw(s3_failures | s3_bodies)} if odd_one else {}
    objects = {**OBJECTS, f"kind/{draw(names)}": draw(st.binary(max_size=9))}
    return use, Cloud(ANSWERS, objects, instead)


def use_s3(case: tuple[str, Cloud], folder: Path) -> None:
    use, cloud = case
    root = folder / "sent"
    root.mkdir(exist_ok=True)
    (root / "run.json").write_bytes(b"{}")
    with answered(cloud):
        shared_store = S3SharedStore(ADDRESS)
        match use:
            case "names":
                assert all(isinstance(name, str) for name in shared_store.names("kind"))
            case "get":
                assert isinstance(shared_store.get("jobs", "001-report.json", 2**20), bytes)
            case "put":
                shared_store.put("kind", "new", b"body")
            case "upload":
                upload.upload_folder(root, "a-bucket", "key")
            case "compare":
                assert all(upload.compare_folder(root, "a-bucket", "key").values())
            case "status":
                run_batch("status", [ADDRESS], cloud)


KEYS: dict[str, st.SearchStrategy[Any]] = {
    "prefix": st.lists(names, min_size=1, max_size=3).map("/".join),
    "names": st.lists(names | st.text("é aZ.()", min_size=1, max_size=9).filter(str.strip), min_size=1, max_size=3),
}
WRONG_KEYS: dict[str, st.SearchStrategy[Any]] = {
    "prefix": words | st.sampled_from(["a//b", "/a", "a/", "../a", "a/./b", "a\x7f"]) | st.just("e" * 1100),
    "names": st.just([]) | st.lists(words, max_size=2) | st.just([os.fsdecode(b"\xff")]) | st.just([".hidden"]),
}


def name_objects(case: dict[str, Any], folder: Path) -> None:
    prefix, root = case["prefix"], folder / "upload"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name in case["names"]:
        if name and name not in (".", "..") and "/" not in name and "\0" not in name and "\ud800" not in name:
            (root / name).write_bytes(b"")
    for key, path in upload._keys(root, prefix).items():
        assert path.parent == root
        assert key.startswith(f"{prefix}/")
        assert ".." not in key.split("/")


def name_bucket(case: dict[str, Any], folder: Path) -> None:
    check_bucket(case["bucket"], case.get("acl"))


def open_shelf(url: str, folder: Path) -> None:
    with answered(Cloud({}, {}, {})):
        S3SharedStore(url)


addresses = st.builds(
    lambda bucket, parts: f"s3://{bucket}/{'/'.join(parts)}", buckets, st.lists(names, min_size=1, max_size=3)
)

# --- what the environment says of AWS -----------------------------------------------------------------------------

SAID: dict[str, st.SearchStrategy[Any]] = {
    "AWS_DEFAULT_REGION": st.sampled_from(["us-east-1", "eu-central-1"]),
    "AWS_ENDPOINT_URL": sometimes(st.sampled_from(["http://127.0.0.1:9000", "https://s3.example"])),
    "AWS_ACCESS_KEY_ID": st.just("testing"),
    "AWS_SECRET_ACCESS_KEY": st.just("testing"),
    "AWS_MAX_ATTEMPTS": sometimes(st.just("2")),
    "AWS_RETRY_MODE": sometimes(st.just("standard")),
    "AWS_PROFILE": st.just(ABSENT),
    "AWS_CONFIG_FILE": st.just("/dev/null"),
}
sayable = words.map(lambda text: text.replace("\x00", "").replace("\ud800", ""))
WRONG_SAID: dict[str, st.SearchStrategy[Any]] = {
    "AWS_DEFAULT_REGION": sayable | st.just(ABSENT),
    "AWS_ENDPOINT_URL": sayable
    | st.sampled_from(["http://user:secret@host:1/", "ftp://x", "http://[", "http://a:99999"]),
    "AWS_MAX_ATTEMPTS": sayable | numbers.map(str),
    "AWS_RETRY_MODE": sayable,
    "AWS_PROFILE": sayable,
    "AWS_CONFIG_FILE": st.just("FOLDER/config"),
}


def connect(case: tuple[dict[str, str], bytes], folder: Path) -> None:
    said, config = case
    (folder / "config").write_bytes(config)
    environment = {name: text.replace("FOLDER", str(folder)) for name, text in {**SETTINGS, **said}.items()}
    if "AWS_DEFAULT_REGION" not in said:
        del environment["AWS_DEFAULT_REGION"]
    with mock.patch.dict(os.environ, environment):
        try:
            S3SharedStore("s3://a-bucket/runs")
            BatchClient()
        except NDSynapseError as error:
            if "secret" in str(error):
                raise AssertionError("the password shows") from error
            raise


TARGETS = [
    Target("answers of S3", s3_answers(), quietly(use_s3), 3, results=0.4, places=4),
    Target("keys of S3", one_wrong(KEYS, WRONG_KEYS), name_objects, 3, results=0.4, places=3),
    Target(
        "buckets and ACLs",
        one_wrong({"bucket": buckets, "acl": sometimes(st.just("private"))}, {"bucket": bad_buckets, "acl": words}),
        name_bucket,
        2,
        results=0.4,
        places=2,
    ),
    Target("addresses of shelves", half(addresses, bad_addresses), open_shelf, 2, results=0.4, places=1),
    Target(
        "environment of AWS",
        st.tuples(one_wrong(SAID, WRONG_SAID), mutated_bytes([b"[default]\nregion = us-east-1\n"])),
        connect,
        1,
        results=0.3,
        places=2,
    ),
]
