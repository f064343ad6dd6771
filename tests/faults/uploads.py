"""An upload to S3 on which things go wrong, and the verdict on how it ended."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

from boto3.s3.transfer import TransferConfig

from nd_synapse.aws import bucket
from nd_synapse.errors import NDSynapseError
from nd_synapse.job.upload import upload_folder
from tests.faults.faulty_s3 import FAULTS, PART_FAULTS, PARTS, REFETCHED, FaultyS3, Plan
from tests.faults.faulty_s3 import alone as planned
from tests.faults.jobs import LIMIT_S, Verdict

FILES = {"synapses.csv": b"id,voxels\n1,31\n", "given-predictions.pkl": bytes(range(256)) * 40, "run.json": b"{}\n"}
OLDER = {name: content + b"older" for name, content in FILES.items()}

LARGE = {"large.bin": random.Random(0).randbytes(5 * 2**20 + 1000)}
"""A file of two parts: S3 takes none, but for the last, of less than 5 MiB."""

IN_PARTS = TransferConfig(max_concurrency=2, multipart_threshold=2**20, multipart_chunksize=5 * 2**20)

UPLOAD_FAULTS = {fault: codes for fault, codes in FAULTS.items() if fault != "odd list"}
"""An upload lists nothing."""


def alone(fault: str, lasting: bool) -> Plan:
    """Return a plan of one fault, from the first file on; what is fetched, an earlier run.json, comes before."""
    return planned(fault, lasting, 1 if fault in REFETCHED else 3)


_LAST = "the last of parts"
CASES_OF_PARTS = [
    (request, fault)
    for request, fault in itertools.product(PARTS, PART_FAULTS)
    if {"damaged": "a part", "late error": _LAST}.get(fault, request) == request
]
"""The requests by which a file is sent in parts, and what can happen to each."""


class Uploads:
    """Folders to be uploaded to an S3 on which things go wrong."""

    def __init__(self, root: Path, faulty: FaultyS3) -> None:
        self.root = root
        self.faulty = faulty
        self._numbers = 0
        self._client = faulty.server.client()
        self._client.create_bucket(Bucket="faults")

    def try_parts(self, request: str, fault: str, lasting: bool) -> Verdict:
        """Upload a folder with a file of two parts under a fault of one of the requests that send it."""
        with mock.patch.object(bucket, "_UPLOAD", IN_PARTS):
            return self.try_out(planned(fault, lasting, 1, PARTS[request]), older=False, files={**FILES, **LARGE})

    def try_out(self, plan: Plan, *, older: bool = True, files: Mapping[str, bytes] = FILES) -> Verdict:
        """Upload a folder under a plan, then again without, if it failed; compare what is in the bucket."""
        self._numbers += 1
        prefix = f"run-{self._numbers}"
        folder = self.root / prefix
        folder.mkdir()
        self._put(folder, OLDER if older else {})
        if older:
            upload_folder(folder, "faults", prefix)
        self._put(folder, files)
        began = time.monotonic()
        self.faulty.plan = plan
        error: NDSynapseError | None = None
        try:
            upload_folder(folder, "faults", prefix)
        except NDSynapseError as raised:
            error = raised
        finally:
            self.faulty.plan = Plan()
        verdict = Verdict(dict(plan.hits), error, time.monotonic() - began)
        if verdict.seconds > LIMIT_S:
            verdict.wrong.append(f"it took {verdict.seconds:.0f} s")
        there = self.objects(prefix)
        if "run.json" in there and there not in (files, OLDER):
            verdict.wrong.append("run.json is there beside files of another run, or without them")
        if error is not None:
            upload_folder(folder, "faults", prefix)
        if self.objects(prefix) != files:
            verdict.wrong.append("the bucket differs from the folder")
        return verdict

    def _put(self, folder: Path, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            (folder / name).write_bytes(content)

    def objects(self, prefix: str) -> dict[str, bytes]:
        listed = self._client.list_objects_v2(Bucket="faults", Prefix=f"{prefix}/").get("Contents", [])
        return {
            entry["Key"].removeprefix(f"{prefix}/"): self._client.get_object(Bucket="faults", Key=entry["Key"])[
                "Body"
            ].read()
            for entry in listed
        }
