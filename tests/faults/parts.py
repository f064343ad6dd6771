"""A run in parts that meet on an S3 on which things go wrong, and the verdict on how it ended."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

from nd_synapse.aws.shared_store import S3SharedStore
from nd_synapse.blocks.shared_store import Part
from nd_synapse.detection.on_disk import detect
from nd_synapse.detection.outcome import Detection
from nd_synapse.detection.parts import detect_part
from nd_synapse.detection.plan import Plan
from nd_synapse.errors import NDSynapseError
from tests.detection.arrays import noisy, plan
from tests.detection.in_process import InProcessPool
from tests.detection.parts import every_part
from tests.faults.faulty_s3 import FaultyS3
from tests.faults.faulty_s3 import Plan as FaultPlan
from tests.faults.jobs import LIMIT_S, Verdict

SHAPE = (3, 12, 14)
BLOCK = (2, 6, 7)
PARTS = every_part(2)


class RunsInParts:
    """Runs in parts on a small volume, each with a shared block store of its own, and what one job makes of it."""

    def __init__(self, root: Path, faulty: FaultyS3) -> None:
        self.root = root
        self.faulty = faulty
        self._source = noisy(SHAPE, np.uint8, 5)
        self._folders = itertools.count(1)
        faulty.server.client().create_bucket(Bucket="parts")
        self.reference = self._bytes(detect(self._plan(), 1))

    def try_out(self, faults: FaultPlan) -> Verdict:
        """Do all parts and the job that ends the run under a plan; whatever fails is done again without."""
        shared_store = S3SharedStore(f"s3://parts/run-{next(self._folders)}")
        first: NDSynapseError | None = None
        began = time.monotonic()
        for part in [*PARTS, None]:
            self.faulty.plan = faults
            try:
                found = self._done(part, shared_store)
            except NDSynapseError as error:
                first = first or error
                self.faulty.plan = FaultPlan()
                found = self._done(part, shared_store)
            finally:
                self.faulty.plan = FaultPlan()
        verdict = Verdict(dict(faults.hits), first, time.monotonic() - began)
        if verdict.seconds > LIMIT_S * len(PARTS):
            verdict.wrong.append(f"it took {verdict.seconds:.0f} s")
        verdict.wrong += [f"{name} differs" for name in self.reference if found[name] != self.reference[name]]
        return verdict

    def _plan(self) -> Plan:
        folder = self.root / f"folder-{next(self._folders)}"
        folder.mkdir()
        return plan(self._source, folder, BLOCK)

    def _done(self, part: Part | None, shared_store: S3SharedStore) -> dict[str, bytes]:
        """Do a part, or what ends the run, in a folder of its own as on a machine of its own."""
        if part is None:
            return self._bytes(detect(self._plan(), 1, shared_store=shared_store))
        assert detect_part(self._plan(), part, shared_store, 1) == []
        return {}

    def _bytes(self, found: Detection) -> dict[str, bytes]:
        held = {"labels": np.asarray(found.labels).tobytes()}
        held |= {f"mask {name}": np.asarray(mask).tobytes() for name, mask in found.masks.items()}
        return held | {f"column {name}": values.tobytes() for name, values in found.table.items()}


@contextmanager
def runs_in_parts(root: Path, faulty: FaultyS3) -> Iterator[RunsInParts]:
    """Set up the runs; their blocks are computed in this process."""
    with (
        mock.patch("nd_synapse.detection.on_disk.BlockPool", InProcessPool),
    ):
        yield RunsInParts(root, faulty)
