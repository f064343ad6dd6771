"""Detections in parts, with a shared block store in memory."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nd_synapse.blocks.shared_store import Part, Phase
from nd_synapse.detection.on_disk import detect
from nd_synapse.detection.outcome import Detection
from nd_synapse.detection.parts import detect_part
from nd_synapse.errors import UnknownNameError
from nd_synapse.geometry import Box, Range
from tests.detection.arrays import Arrays, Loaded, plan

SIZE = (2, 6, 7)
BOX = Box.of_shape((4, 15, 20))
PHASES: tuple[Phase, ...] = ("statistics", "detection", "contacts", "join", "objects")
BLOCKS = len(list(BOX.tiles(SIZE, aligned=True)))


class Memory:
    """A shared block store in memory that counts what is left in it, and refuses to change anything."""

    def __init__(self) -> None:
        self.things: dict[tuple[str, str], bytes] = {}
        self.left: list[tuple[str, str]] = []

    def names(self, kind: str) -> set[str]:
        return {name for of, name in self.things if of == kind}

    def get(self, kind: str, name: str, most_bytes: int) -> bytes | None:
        if (kind, name) not in self.things:
            raise UnknownNameError(f"{kind}/{name}", "it is not there", "Leave it")
        body = self.things[kind, name]
        return body if len(body) <= most_bytes else None

    def put(self, kind: str, name: str, body: bytes, *, replaces: bool = False) -> None:
        self.left.append((kind, name))
        if replaces:
            self.things.pop((kind, name))
        self.things.setdefault((kind, name), body)


def loaded(detection: Detection) -> Detection:
    """Read masks and labels while their files are there."""
    arrays = {name: Loaded(mask) for name, mask in detection.masks.items()}
    return replace(detection, masks=arrays, labels=Loaded(detection.labels))  # type: ignore[arg-type] # arrays in the place of files


def in_one(source: Arrays) -> Detection:
    """Detect without parts."""
    with tempfile.TemporaryDirectory() as folder:
        return loaded(detect(plan(source, Path(folder), SIZE), 1))


def in_parts(source: Arrays, parts: list[Part], shared_store: Memory) -> Detection:
    """Do parts, each in a folder of its own as on a machine of its own, then the rest."""
    for part in parts:
        with tempfile.TemporaryDirectory() as folder:
            assert detect_part(plan(source, Path(folder), SIZE), part, shared_store, 2) == []
    with tempfile.TemporaryDirectory() as folder:
        return loaded(detect(plan(source, Path(folder), SIZE), 2, shared_store=shared_store))


def every_part(count: int) -> list[Part]:
    """Return the parts of a run, in their order."""
    return [Part(phase, index, count) for phase in PHASES for index in range(1 if phase == "join" else count)]


class Watching(Arrays):
    """A source that remembers what it was asked for."""

    requested: list[Box]

    def get_cutout(self, channel: str, z_range: Range, y_range: Range, x_range: Range, /) -> NDArray[Any]:
        self.requested.append(Box(z_range, y_range, x_range))
        return super().get_cutout(channel, z_range, y_range, x_range)
