"""The record of a run in S3: what was submitted, and which blocks are finished. Each object is written once."""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from batch.phases import PHASES, Phase
from batch.requests import Run
from nd_synapse.aws.bucket import Bucket
from nd_synapse.errors import DataError, UnknownNameError, UsageError
from nd_synapse.text import one_line

__all__ = ["Records", "Submitted", "finished_blocks"]

log = logging.getLogger(__name__)

RECORD = "run.json"

T = TypeVar("T")

_MOST_BYTES = 2**20
"""Largest record of a run, or of a job of it; they have some thousand."""

_REMEDY = "Nothing was submitted by this; the same command may be repeated"

_COUNTED: dict[str, Phase] = {traits.finishes: phase for phase, traits in PHASES.items() if traits.finishes}
"""First word of a kind of objects: the phase for which it says that a block is finished."""

_JOB = re.compile(rf"jobs/(\d{{3}})-({'|'.join(PHASES)})\.json")

_BLOCK = re.compile(r"([a-z]+(?:-[a-z]+)?(?:-[0-9a-f]+)+)/(\d+_\d+_\d+)\.npz")


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job of a run, as it was submitted."""

    round: int
    """1, and one more with each resumption."""

    phase: Phase
    job_id: str


class Records:
    """The record of one run, whose address is ``s3://bucket/prefix``."""

    def __init__(self, address: str) -> None:
        form = re.fullmatch(r"s3://([^/]+)/([!-~]*[!-.0-~])", address.rstrip("/"))
        if form is None:
            raise UsageError(
                f"run {address}", "it is not of the form s3://bucket/prefix", "Give the address that `submit` printed"
            )
        self.address = address.rstrip("/")
        self._bucket, self._prefix = Bucket(form[1], _REMEDY), form[2]

    def claim(self, run: Run, region: str, created: str) -> Run:
        """Write the record of a new run, or take over one of which nothing was submitted."""
        # distinguishes this call's record from that of another one in the same second
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
        try:
            body = self._get(RECORD)
        except UnknownNameError as error:
            remedy = "Check the address and the region"
            raise UnknownNameError(f"run {self.address}", f"it has no {RECORD} ({error.found})", remedy) from error
        return self._parsed(
            RECORD, body, lambda at: (Run.from_json(at["run"]), one_line(at["region"]), one_line(at["created"]))
        )

    def add(self, job: Submitted) -> None:
        """Record a job that was submitted."""
        if not self._put(f"jobs/{job.round:03}-{job.phase}.json", {"job_id": job.job_id}):
            raise UsageError(
                f"run {self.address}", "somebody else resumes it at this moment", "See its state with `status`"
            )

    def jobs(self) -> list[Submitted]:
        """List the jobs that were submitted, those of later rounds after those of earlier ones."""
        found = []
        for name in sorted(self._names("jobs/")):
            form = _JOB.fullmatch(name)
            if form is None:
                raise DataError(f"{self.address}/{name}", "no command of ours wrote it", "Remove it")
            phase: Any = form[2]
            job_id = self._parsed(name, self._get(name), lambda at: one_line(at["job_id"]))
            found.append(Submitted(int(form[1]), phase, job_id))
        return found

    def finished(self) -> dict[Phase, set[str]]:
        """List the blocks that are finished."""
        return finished_blocks(name for word in _COUNTED for name in self._names(f"{word}-"))

    def _names(self, start: str) -> Iterator[str]:
        """Yield the names of the run's objects that start so."""
        for key in self._bucket.keys(f"{self._prefix}/{start}"):
            yield key.removeprefix(f"{self._prefix}/")

    def _get(self, name: str) -> bytes:
        """Fetch an object."""
        body = self._bucket.read(f"{self._prefix}/{name}", _MOST_BYTES)
        if body is None:
            found = f"it has more than {_MOST_BYTES:,} bytes, and is no record"
            raise DataError(f"{self.address}/{name}", found, "Give the address of a run")
        return body

    def _put(self, name: str, value: dict[str, Any]) -> bool:
        """Write an object unless there is one; return whether it has the value now."""
        body = json.dumps(value, indent=1).encode()
        # where the response to the write was lost and botocore repeated it, what is there is ours
        return self._bucket.put_new(f"{self._prefix}/{name}", body, "application/json") or self._get(name) == body

    def _parsed(self, name: str, body: bytes, make: Callable[[Any], T]) -> T:
        """Parse the JSON of an object."""
        try:
            return make(json.loads(body))
        except (KeyError, TypeError, ValueError, RecursionError) as cause:
            raise DataError(
                f"{self.address}/{name}", f"it is no record of this version ({cause!r})", "Give the address of a run"
            ) from cause


def finished_blocks(names: Iterable[str]) -> dict[Phase, set[str]]:
    """Return the keys of finished blocks, from the names of objects."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for name in names:
        form = _BLOCK.fullmatch(name)
        if form:
            kinds[form[1]].add(form[2])
    largest: dict[Phase, set[str]] = {phase: set() for phase in _COUNTED.values()}
    for kind, keys in kinds.items():
        phase = _COUNTED.get(kind.partition("-")[0])
        if phase is not None and len(keys) > len(largest[phase]):
            largest[phase] = keys
    return largest
