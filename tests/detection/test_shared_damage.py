"""What is damaged in a shared block store, or of another block, costs its block, and does not show."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from nd_synapse.aws.shared_store import S3SharedStore
from nd_synapse.blocks.shared_store import Part, Phase, SharedStore
from nd_synapse.detection.on_disk import detect
from nd_synapse.detection.outcome import Detection
from nd_synapse.detection.parts import detect_part
from nd_synapse.files.shared_folder import SharedFolder
from nd_synapse.pipeline.contract import Place, Summary
from pipelines.nomads_unsupervised import NomadsUnsupervised
from tests.detection.arrays import Arrays, plan, same
from tests.detection.in_process import InProcessPool
from tests.detection.parts import loaded
from tests.fixtures_s3 import S3Server
from tests.pipelines.variants import built, volume

SIZE = (2, 6, 7)
SHAPE = (3, 12, 21)
SOURCE = Arrays(**volume(built("nomads-unsupervised"), SHAPE, np.uint8, "spots", 3))
Bodies = dict[str, bytes]


def parts_of(phase: Phase) -> list[Part]:
    return [Part(phase, index, 2) for index in range(1 if phase == "join" else 2)]


@dataclass(frozen=True, slots=True)
class Failing(NomadsUnsupervised):
    """Fails on two blocks."""

    def summarise(self, arrays: Mapping[str, NDArray[Any]], place: Place) -> Summary:
        if place.start in ((2, 6, 7), (2, 6, 14)):
            raise ValueError(f"not the block at {place.start}")
        return NomadsUnsupervised.summarise(self, arrays, place)


def do(parts: list[Part], shared_store: SharedStore | None) -> Detection:
    """Do parts, each in a folder of its own as on a machine of its own, then what ends the run."""
    for part in [*parts, None]:
        with tempfile.TemporaryDirectory() as folder:
            whole = replace(plan(SOURCE, Path(folder), SIZE), pipeline=Failing())
            if part is None:
                return loaded(detect(whole, 2, shared_store=shared_store))
            assert shared_store is not None
            detect_part(whole, part, shared_store, 2)
    raise AssertionError


def flipped(bodies: Bodies) -> Bodies:
    key, body = max(bodies.items(), key=lambda item: len(item[1]))
    middle = len(body) // 2
    return {key: body[:middle] + bytes([body[middle] ^ 255]) + body[middle + 1 :]}


def truncated(bodies: Bodies) -> Bodies:
    key, body = next(iter(bodies.items()))
    return {key: body[:-3]}


def emptied(bodies: Bodies) -> Bodies:
    return {next(iter(bodies)): b""}


def grown(bodies: Bodies) -> Bodies:
    key, body = next(iter(bodies.items()))
    return {key: body + bytes(16)}


def traded(bodies: Bodies) -> Bodies:
    one, *_, other = sorted(bodies, key=lambda key: len(bodies[key]))
    return {one: bodies[other], other: bodies[one]}


def bodies_below(root: Path) -> Bodies:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@dataclass(frozen=True)
class Bucket:
    """The objects of a run that is whole, and what it comes to."""

    server: S3Server
    shared_store: SharedStore
    wanted: Detection
    whole: Bodies

    def bodies(self) -> Bodies:
        client = self.server.client()
        keys = self.server.keys("parts")
        return {key: client.get_object(Bucket="parts", Key=key)["Body"].read() for key in keys}

    def put(self, bodies: Bodies) -> None:
        for key, body in bodies.items():
            self.server.client().put_object(Bucket="parts", Key=key, Body=body)


@dataclass(frozen=True)
class Folder(Bucket):
    """The same in a folder."""

    root: Path

    def bodies(self) -> Bodies:
        return bodies_below(self.root)

    def put(self, bodies: Bodies) -> None:
        for key, body in bodies.items():
            (self.root / key).parent.mkdir(parents=True, exist_ok=True)
            (self.root / key).write_bytes(body)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Detection, Bodies]:
    """Return what a run comes to, and what its parts leave."""
    root = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)
        wanted = do([], None)
        same(do([*parts_of("statistics"), *parts_of("detection")], SharedFolder(f"{root}/run")), wanted)
    return wanted, bodies_below(root)


@pytest.fixture(params=["s3", "folder"])
def bucket(
    request: pytest.FixtureRequest,
    s3_env: S3Server,
    whole: tuple[Detection, Bodies],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Bucket:
    monkeypatch.setattr("nd_synapse.detection.on_disk.BlockPool", InProcessPool)
    s3_env.client().create_bucket(Bucket="parts")
    made = (
        Bucket(s3_env, S3SharedStore("s3://parts/run"), *whole)
        if request.param == "s3"
        else Folder(s3_env, SharedFolder(f"{tmp_path}/run"), *whole, tmp_path)
    )
    made.put(made.whole)
    return made


KINDS = ("statistics", "sums", "parts", "contacts", "joined", "objects", "features", "failed")
DAMAGE: tuple[Callable[[Bodies], Bodies], ...] = (flipped, truncated, emptied, grown, traded)


@pytest.mark.parametrize(
    "damage", [pytest.param(one, marks=[pytest.mark.slow] * (one is not traded)) for one in DAMAGE]
)
def test_what_is_damaged_is_computed_again_and_replaced(
    bucket: Bucket, damage: Callable[[Bodies], Bodies], caplog: pytest.LogCaptureFixture
) -> None:
    """In each kind of what parts leave, at the same time; the sums are made again by the parts that count."""
    spoilt: Bodies = {}
    for kind in KINDS:
        spoilt |= damage({key: body for key, body in bucket.whole.items() if key.startswith(f"run/{kind}-")})
    assert len(spoilt) == len(KINDS) * (2 if damage is traded else 1)
    assert all(body != bucket.whole[key] for key, body in spoilt.items())
    bucket.put(spoilt)
    with caplog.at_level(logging.WARNING):
        same(do(parts_of("detection"), bucket.shared_store), bucket.wanted)
    for key in spoilt:
        assert f"{key.removeprefix('run/')} in the shared block store is made again" in caplog.text
    same(do(parts_of("statistics"), bucket.shared_store), bucket.wanted)
    assert bucket.bodies() == bucket.whole


@pytest.mark.slow
@pytest.mark.parametrize("bucket", ["folder"], indirect=True)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phase", ["statistics", "detection", "objects", "report"])
def test_whichever_phase_finds_one_damaged_thing_the_run_ends_with_the_same_bytes(
    bucket: Bucket, kind: str, phase: Literal["statistics", "detection", "objects", "report"]
) -> None:
    for damage in DAMAGE:
        bucket.put(bucket.whole)
        bucket.put(damage({key: body for key, body in bucket.whole.items() if key.startswith(f"run/{kind}-")}))
        parts = [] if phase == "report" else parts_of(phase)
        same(do(parts, bucket.shared_store), bucket.wanted)
