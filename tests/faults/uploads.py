"""An upload to S3 on which things go wrong, and the verdict on how it ended."""

from __future__ import annotations

import time
from pathlib import Path

from errors import NDSynapseError
from s3 import upload_folder
from tests.faults.faulty_s3 import FAULTS, FaultyS3, Plan
from tests.faults.faulty_s3 import alone as planned
from tests.faults.jobs import LIMIT_S, Verdict

FILES = {"synapses.csv": b"id,voxels\n1,31\n", "given-predictions.pkl": bytes(range(256)) * 40, "run.json": b"{}\n"}
OLDER = {name: content + b"older" for name, content in FILES.items()}

UPLOAD_FAULTS = {fault: codes for fault, codes in FAULTS.items() if fault != "damaged answer"}
"""An upload fetches nothing."""


def alone(fault: str, lasting: bool) -> Plan:
    """Return a plan of one fault, from the first file on."""
    return planned(fault, lasting, 3)


class Uploads:
    """Folders to be uploaded to an S3 on which things go wrong."""

    def __init__(self, root: Path, faulty: FaultyS3) -> None:
        self.root = root
        self.faulty = faulty
        self._numbers = 0
        self._client = faulty.server.client()
        self._client.create_bucket(Bucket="faults")

    def try_out(self, plan: Plan, *, older: bool = True) -> Verdict:
        """Upload a folder under a plan, then again without, if it failed; compare what is in the bucket."""
        self._numbers += 1
        prefix = f"run-{self._numbers}"
        folder = self.root / prefix
        folder.mkdir()
        self._put(folder, OLDER if older else {})
        if older:
            upload_folder(folder, "faults", prefix)
        self._put(folder, FILES)
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
        if "run.json" in there and there not in (FILES, OLDER):
            verdict.wrong.append("run.json is there beside files of another run, or without them")
        if error is not None:
            upload_folder(folder, "faults", prefix)
        if self.objects(prefix) != FILES:
            verdict.wrong.append("the bucket differs from the folder")
        return verdict

    def _put(self, folder: Path, files: dict[str, bytes]) -> None:
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
