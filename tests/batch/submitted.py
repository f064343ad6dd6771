"""What a command of `nd-synapse batch` came to, and a run with what is in its place in S3 and on Batch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from batch.phases import Phase
from batch.requests import Run
from batch.runs import Records
from tests.batch.examples import keys_of
from tests.batch.fixtures import BUCKET, client
from tests.fixtures_s3 import S3Server


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Place:
    """A run that nobody else has, and what is in its place."""

    name: str
    server: S3Server

    @property
    def address(self) -> str:
        """Return its address."""
        return f"s3://{BUCKET}/runs/{self.name}"

    @property
    def submit(self) -> list[str]:
        """Return the command that submits it, without what it is to do."""
        words = ["submit", "--queue", "nd", "--job-definition", "nd", "--run-bucket", BUCKET, "--run", self.name]
        return [*words, "--yes"]

    def objects(self, start: str = "") -> list[str]:
        """Return what is there that begins so."""
        prefix = f"runs/{self.name}/"
        found = client(self.server, "s3").list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}{start}").get("Contents", [])
        return [entry["Key"].removeprefix(prefix) for entry in found]

    def text(self, key: str) -> str:
        """Return what an object holds."""
        answer = client(self.server, "s3").get_object(Bucket=BUCKET, Key=f"runs/{self.name}/{key}")
        return str(answer["Body"].read().decode())

    def job(self, phase: Phase, number: int = 1) -> str:
        """Return the id of a job that the record has."""
        return str(json.loads(self.text(f"jobs/{number:03}-{phase}.json"))["job_id"])

    def described(self, *ids: str) -> list[dict[str, Any]]:
        """Return what Batch says of jobs."""
        return list(client(self.server, "batch").describe_jobs(jobs=list(ids))["jobs"])

    def run(self) -> Run:
        """Return the run of the record."""
        return Records(self.address).read()[0]

    def finish(self, kind: str, blocks: slice) -> None:
        """Commit blocks as children do."""
        for key in keys_of(self.run())[blocks]:
            client(self.server, "s3").put_object(Bucket=BUCKET, Key=f"runs/{self.name}/{kind}/{key}.npz", Body=b"")
