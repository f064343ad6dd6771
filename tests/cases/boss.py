"""Pushes to BOSS as it is: late erases, trouble of its own, and rights that are apart."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from intern.resource.boss.resource import ChannelResource

from nd_synapse.boss.connection import Patience, connect, describe_resource
from nd_synapse.boss.cutouts import erase_block, write_block
from nd_synapse.boss.push import Destination, push_mask
from nd_synapse.errors import NDSynapseError
from nd_synapse.geometry import Box, Frame
from tests.cases import Case
from tests.faults.jobs import FaultyServer
from tests.faulty_boss import Fault, boss_error, faulty_boss, says
from tests.late_boss import NEVER, FastClock
from tests.pushes import Bench

_PATIENT = Patience(connect_s=10, read_s=10, attempts=3, pause_s=0.001, longest_pause_s=0.01)
_BOX = Box((0, 1), (0, 2), (0, 5))
_FRAME = Frame("frame", _BOX, (70.0, 100.0, 100.0))
_MASKS = {
    "A": np.ones(_BOX.shape, bool),
    "B": np.eye(2, 5, dtype=bool)[np.newaxis],
    "empty": np.zeros(_BOX.shape, bool),
}
_CHANNEL = ChannelResource("mask", "out", "pushes", datatype="uint8")


def _ended(what: str, action: Callable[[], object]) -> str:
    """Return how something ended."""
    try:
        action()
    except NDSynapseError as error:
        return f"{what}: {type(error).__name__} ({error.exit_code}), {error.found.split('; its description')[0]}"
    return f"{what}: done"


def _pushed(server: FaultyServer, name: str, token: str | None = None, *, overwrite: bool = True) -> str:
    """Push a mask, made by its name, to the one channel."""
    remote = connect(server.url, token or server.token, patience=_PATIENT)
    destination = Destination("out", "pushes", "mask", name, overwrite=overwrite)
    ended = _ended(name, lambda: push_mask(remote, destination, _BOX, _MASKS[name], _FRAME))
    return ended.replace(server.url, "BOSS")


def _late(*steps: str, lag_s: float = 8.0) -> Callable[[Path], str]:
    """Push masks one after another; ``erase``: somebody else erases. Erases take effect late, writes at once."""

    def observe(folder: Path) -> str:
        bench = Bench(folder)
        try:
            bench.voxels.lag_s = lambda erase: lag_s if erase else 0.0
            bench.voxels.clock = FastClock(lambda: 0.1)
            ended = []
            for step in steps:
                if step == "erase":
                    erase_block(connect(bench.server.url, bench.server.token), _CHANNEL, _BOX)
                else:
                    ended.append(_pushed(bench.server, step))
            bench.voxels.carry_out(1e9)
            found = np.count_nonzero(bench.voxels.in_the_end(bench.channel("mask"), _BOX))
            return f"{'; '.join(ended)}; in the end {found} voxels"
        finally:
            bench.close()

    return observe


def _answered(*faults: Fault, erase: bool = False) -> Callable[[Path], str]:
    """Write or erase a block, and let BOSS answer with these."""

    def observe(_folder: Path) -> str:
        with faulty_boss() as boss:
            boss.add("^PUT", *[says(500)] * 9)
            boss.add("^POST", *faults)
            boss.add("^GET", *[says(200, {"collections": []})] * 9)
            remote = connect(boss.url, "0123456789", patience=_PATIENT)
            voxels = np.zeros(_BOX.shape, np.uint8)
            if erase:
                ended = _ended("erase", lambda: erase_block(remote, _CHANNEL, _BOX))
            else:
                ended = _ended("write", lambda: write_block(remote, _CHANNEL, _BOX, voxels))
            return f"{ended.replace(boss.url, 'BOSS')}; {boss.count('^POST')} writes"

    return observe


def _with_rights(*rights: str) -> Callable[[Path], str]:
    """Push B with some rights only, and then A as its owner."""

    def observe(folder: Path) -> str:
        entries = {
            "0123456789-owner": {"user": "owner", "role": "admin", "read": "all", "write": "all"},
            "0123456789-other": {"user": "other", "role": "none", "rights": dict.fromkeys(rights, "all")},
        }
        (folder / "boss").mkdir()
        (folder / "boss" / "tokens.json").write_text(json.dumps({"tokens": entries}))
        (folder / "boss" / "tokens.json").chmod(0o600)
        server = FaultyServer(folder / "boss")
        try:
            ended = [_pushed(server, "A"), _pushed(server, "B", "0123456789-other")]
            return "; ".join([*ended, _pushed(server, "A", overwrite=False)])
        finally:
            server.close()

    return observe


def _of_base_1(folder: Path) -> str:
    """Push to a channel whose finest resolution is 1."""
    server = FaultyServer(folder / "boss")
    try:
        _pushed(server, "A")
        remote = connect(server.url, server.token)
        channel = ChannelResource("other", "out", "pushes", "image", datatype="uint8", base_resolution=1)
        remote.create_project(channel)
        destination = Destination("out", "pushes", "other", "B", overwrite=True)
        ended = _ended("B", lambda: push_mask(remote, destination, _BOX, _MASKS["B"], _FRAME))
        return f"{ended}; its base resolution is {describe_resource(remote, 'other', channel)['base_resolution']}"
    finally:
        server.close()


_TROUBLE = boss_error(400, 9001, "Error during write_cuboid: Error inserting cube into the write buffer.")
_LOCKED = boss_error(
    400,
    9001,
    "Error during write_cuboid: ('Resource Locked', 'The requested resource is locked due to excessive write errors."
    " Contact support.', <ErrorCodes.RESOURCE_LOCKED: 108>)",
)
_MISMATCH = boss_error(
    400,
    9001,
    "Error during write_cuboid: ('Resolution Mismatch', \"You can only write data to a channel's base resolution or one"
    ' resolution above it. Base Resolution: 0, Request Resolution: 2", <ErrorCodes.RESOLUTION_MISMATCH: 109>)',
)
_OK = says(201, b"")

CASES: tuple[Case, ...] = (
    Case(
        "late-erase-of-an-empty-mask",
        "10 voxels are replaced by an empty mask; BOSS erases 8 s late",
        "A: done; empty: DataError (65), 10 voxels read back differ, the first at z, y, x (0, 0, 0); in the end"
        " 0 voxels",
        "A: done; empty: done; in the end 0 voxels",
        _late("A", "empty"),
    ),
    Case(
        "late-erase-and-the-mask-again",
        "a mask, an empty one, and at once the mask again; BOSS erases 8 s late",
        "A: done; empty: DataError (65), 10 voxels read back differ, the first at z, y, x (0, 0, 0); A: done;"
        " in the end 0 voxels",
        "A: done; empty: done; A: done; in the end 10 voxels",
        _late("A", "empty", "A"),
    ),
    Case(
        "late-erase-by-somebody-else",
        "somebody erases a mask, which is at once pushed again; BOSS erases 8 s late",
        "A: done; A: done; in the end 0 voxels",
        "A: done; A: done; in the end 10 voxels",
        _late("A", "erase", "A"),
    ),
    Case(
        "erase-that-never-ends",
        "10 voxels are replaced by an empty mask; BOSS never erases",
        "A: done; empty: DataError (65), 10 voxels read back differ, the first at z, y, x (0, 0, 0); in the end"
        " 10 voxels",
        "A: done; empty: UnavailableError (69), BOSS answered with HTTP status 500, after the retries; in the"
        " end 10 voxels",
        _late("A", "empty", lag_s=NEVER),
    ),
    Case(
        "storage-trouble-once",
        "BOSS answers a write with 400, code 9001, once",
        "write: UsageError (2), it was refused; BOSS says: Error during write_cuboid: Error inserting cube into"
        " the write buffer; 1 writes",
        "write: done; 2 writes",
        _answered(_TROUBLE, _OK),
    ),
    Case(
        "storage-trouble-that-lasts",
        "BOSS answers each write with 400, code 9001",
        "write: UsageError (2), it was refused; BOSS says: Error during write_cuboid: Error inserting cube into"
        " the write buffer; 1 writes",
        "write: UnavailableError (69), BOSS says: Error during write_cuboid: Error inserting cube into the"
        " write buffer, after the retries; 3 writes",
        _answered(*[_TROUBLE] * 9),
    ),
    Case(
        "locked-channel",
        "BOSS has locked the channel (400, code 9001)",
        "write: UsageError (2), it was refused; BOSS says: Error during write_cuboid: ('Resource Locked', ...);"
        " 1 writes",
        "write: UnavailableError (69), BOSS has locked the channel after too many failed writes; 1 writes",
        _answered(*[_LOCKED] * 9),
    ),
    Case(
        "erase-in-a-locked-channel",
        "BOSS has locked the channel: an erase is answered with a 500 page",
        "erase: UnavailableError (69), BOSS answered with HTTP status 500, after the retries; 0 writes",
        "erase: UnavailableError (69), BOSS has locked the channel after too many failed writes; 1 writes",
        _answered(_LOCKED, erase=True),
    ),
    Case(
        "resolution-that-cannot-be-written",
        "BOSS does not write this resolution (400, code 9001)",
        "write: UsageError (2), it was refused; BOSS says: Error during write_cuboid: ('Resolution Mismatch',"
        " ...); 1 writes",
        "write: DataError (65), BOSS cannot write this resolution of the channel; 1 writes",
        _answered(*[_MISMATCH] * 9),
    ),
    Case(
        "update-without-write",
        "a push by a user who may describe the channel and not write its voxels; then its owner's",
        "A: done; B: PermissionDeniedError (77), the token may not do this; BOSS says: This user does not have"
        " the required permissions; A: UsageError (2), another run or user made it",
        "A: done; B: PermissionDeniedError (77), the token may not do this; BOSS says: This user does not have"
        " the required permissions; A: done",
        _with_rights("read", "read_volumetric_data", "update"),
    ),
    Case(
        "update-without-read",
        "a push by a user who may describe and write the channel and not read its voxels; then its owner's",
        "A: done; B: PermissionDeniedError (77), the token may not do this; BOSS says: This user does not have"
        " the required permissions; A: UsageError (2), another run or user made it",
        "A: done; B: PermissionDeniedError (77), the token may not do this; BOSS says: This user does not have"
        " the required permissions; A: done",
        _with_rights("read", "update", "add_volumetric_data"),
    ),
    Case(
        "channel-of-another-base-resolution",
        "a push to a channel whose base resolution is 1",
        "B: done; its base resolution is 0",
        "B: DataError (65), it exists already, with type image and uint8, and 1 as its base resolution; its"
        " base resolution is 1",
        _of_base_1,
    ),
)
