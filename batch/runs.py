"""The record of a run in S3: what was submitted, under which ids, and how far it has come.

It holds nothing that changes: each object is written once, so whoever comes second learns it. No voxel passes here.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from botocore import exceptions as boto_errors

from batch.requests import Phase, Run
from nd_synapse.aws import connection, transfers
from nd_synapse.aws.connection import translated
from nd_synapse.aws.upload import check_bucket
from nd_synapse.errors import DataError, UnknownNameError, UsageError
from nd_synapse.text import one_line

__all__ = ["Records", "Submitted", "finished_blocks"]

log = logging.getLogger(__name__)

RECORD = "run.json"

T = TypeVar("T")

_MOST_BYTES = 2**20
"""Largest record of a run, or of a job of it; they have some thousand."""

_REMEDY = "Nothing was submitted by this; the same command may be given again"

_COUNTED: dict[str, Phase] = {"statistics": "statistics", "parts": "detection"}
"""First word of a kind of objects, and the phase of which it says that a block is finished."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job of a run, as it was submitted.

    Parameters
    ----------
    round : int
        1, and one more with each resumption.
    phase : Phase
        What it does.
    job_id : str
        Its id.
    """

    round: int
    phase: Phase
    job_id: str


class Records:
    """The record of one run.

    Parameters
    ----------
    address : str
        ``s3://bucket/prefix``.

    Raises
    ------
    UsageError
        If it has another form, or no bucket can have such a name, or S3 cannot be connected to.
    """

    def __init__(self, address: str) -> None:
        form = re.fullmatch(r"s3://([^/]+)/([!-~]*[!-.0-~])", address)
        if form is None:
            raise UsageError(
                f"run {address}", "a run is called by its address, s3://bucket/prefix", "Give what `submit` printed"
            )
        check_bucket(form[1], None)
        self.address = address
        self._bucket, self._prefix = form[1], form[2]
        with translated(f"connecting to S3 for {address}", _REMEDY):
            self._client = connection.client()

    def claim(self, run: Run, region: str, created: str) -> Run:
        """Write the record of a new run, or take over one of which nothing was submitted."""
        # what tells this call's record from that of another one in the same second
        claim = secrets.token_hex(8)
        if self._put(RECORD, {"claim": claim, "created": created, "region": region, "run": run.as_json()}):
            return run
        there, its_region, _ = self.read()
        # with --secret, each command registers a job definition of its own
        is_same = its_region == region and replace(there, job_definition=run.job_definition) == run
        if is_same and not self.jobs():
            log.info("%s was recorded before, and nothing of it submitted: going on with it", self.address)
            return there
        raise UsageError(
            f"run {self.address}",
            "there is one already",
            f"Go on with `nd-synapse batch resume {self.address}`, or choose another name with --run",
        )

    def read(self) -> tuple[Run, str, str]:
        """Read the record."""
        body = self._get(RECORD)
        if body is None:
            raise UnknownNameError(f"run {self.address}", f"it has no {RECORD}", "Check the address and the region")
        return self._made(
            RECORD, body, lambda at: (Run.from_json(at["run"]), one_line(at["region"]), one_line(at["created"]))
        )

    def add(self, job: Submitted) -> None:
        """Note a job that was submitted."""
        if not self._put(f"jobs/{job.round:03}-{job.phase}.json", {"job_id": job.job_id}):
            raise UsageError(
                f"run {self.address}", "somebody else resumes it at this moment", "See how it fares with `status`"
            )

    def jobs(self) -> list[Submitted]:
        """List the jobs that were submitted, those of later rounds after those of earlier ones."""
        found = []
        for name in sorted(self._names("jobs/")):
            body = self._get(name)
            form = re.fullmatch(r"jobs/(\d{3})-(statistics|detection|report)\.json", name)
            if body is None or form is None:
                raise DataError(f"{self.address}/{name}", "no command of ours wrote it", "Remove it")
            phase: Any = form[2]
            job_id = self._made(name, body, lambda at: one_line(at["job_id"]))
            found.append(Submitted(int(form[1]), phase, job_id))
        return found

    def finished(self) -> dict[Phase, set[str]]:
        """List the blocks that are finished."""
        return finished_blocks(name for word in _COUNTED for name in self._names(f"{word}-"))

    def _names(self, start: str) -> Iterator[str]:
        """Yield the names of the run's objects that begin so."""
        with translated(f"listing {self.address}", _REMEDY):
            for key in transfers.keys(self._client, self._bucket, f"{self._prefix}/{start}"):
                yield key.removeprefix(f"{self._prefix}/")

    def _get(self, name: str) -> bytes | None:
        """Fetch an object; None where there is none."""
        with translated(f"fetching {self.address}/{name}", _REMEDY):
            try:
                body: bytes = transfers.fetched(
                    self._client,
                    # the second time it is asked, botocore sees whether the first gave all that there is
                    lambda body: body.read(_MOST_BYTES) + body.read(1),
                    Bucket=self._bucket,
                    Key=f"{self._prefix}/{name}",
                )
            except boto_errors.ClientError as cause:
                if cause.response.get("Error", {}).get("Code") != "NoSuchKey":
                    raise
                return None
        if len(body) > _MOST_BYTES:
            found = f"it has more than {_MOST_BYTES:,} bytes, and is no record"
            raise DataError(f"{self.address}/{name}", found, "Give the address of a run")
        return body

    def _put(self, name: str, value: dict[str, Any]) -> bool:
        """Write an object unless there is one; tell whether what is there is what was to be written."""
        body = json.dumps(value, indent=1).encode()
        with translated(f"writing {self.address}/{name}", _REMEDY):
            key = f"{self._prefix}/{name}"
            is_new = transfers.put_new(self._client, body, Bucket=self._bucket, Key=key, ContentType="application/json")
        # ours is found there as well, if the answer to it was lost and botocore wrote it again
        return is_new or self._get(name) == body

    def _made(self, name: str, body: bytes, make: Callable[[Any], T]) -> T:
        """Make something of an object's JSON."""
        try:
            return make(json.loads(body))
        except (KeyError, TypeError, ValueError, RecursionError) as cause:
            raise DataError(
                f"{self.address}/{name}", f"it is no record of this version ({cause!r})", "Give the address of a run"
            ) from cause


def finished_blocks(names: Iterable[str]) -> dict[Phase, set[str]]:
    """Read from the names of objects which blocks are finished."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for name in names:
        form = re.fullmatch(r"([a-z]+-[0-9a-f]+)/(\d+_\d+_\d+)\.npz", name)
        if form:
            kinds[form[1]].add(form[2])
    largest: dict[Phase, set[str]] = {phase: set() for phase in _COUNTED.values()}
    for kind, keys in kinds.items():
        phase = _COUNTED.get(kind.partition("-")[0])
        if phase is not None and len(keys) > len(largest[phase]):
            largest[phase] = keys
    return largest
