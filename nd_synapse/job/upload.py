"""The upload of a result folder to S3: what goes in which order, and what of an earlier upload is removed."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nd_synapse.aws.bucket import Bucket, check_bucket
from nd_synapse.errors import PermissionDeniedError, StorageError, UnknownNameError, UsageError, few
from nd_synapse.job.deliverables import GROWING, MARKER, deliverables
from nd_synapse.job.manifest import MOST_BYTES, outline_in, outline_of

__all__ = ["UploadedObject", "command_of", "compare_folder", "upload_folder"]

log = logging.getLogger(__name__)

_FOREIGN = 100
"""Objects without a file that are named at most."""


@dataclass(frozen=True, slots=True)
class UploadedObject:
    """One file of a folder, in S3."""

    key: str
    sent: bool
    """False if the object was there already, with the same checksum."""


@dataclass(frozen=True, slots=True)
class _Earlier:
    """What an earlier upload left below the same prefix."""

    may_exist: bool
    """Whether there is a run.json, or may be one: the role has no right to look."""

    stale: Sequence[str] = ()
    """Keys that its run.json lists and this run does not have."""


def upload_folder(root: Path, bucket: str, key_prefix: str, *, acl: str | None = None) -> list[UploadedObject]:
    """Upload the deliverable files of a folder to ``s3://<bucket>/<key_prefix>/<path in the folder>``.

    Objects that have their file's content, by S3's checksum, are not sent again: the same call resumes a failed upload.
    A missing bucket is created, closed to the public. ``run.json`` goes last, after all others were compared; an older
    one is deleted before anything beside it changes, with the objects that it lists and the new one does not.
    """
    remedy = _resuming(root, bucket, acl)
    try:
        check_bucket(bucket, acl)
    except UsageError as error:
        remedy = _resuming(root, "NAME", None)
        raise UsageError(error.requested, error.found, f"{error.remedy}. {remedy}") from None
    keys = _keys(root, key_prefix)
    target = Bucket(bucket, remedy)
    target.create_if_missing()
    earlier = _earlier(target, root, key_prefix)

    done: list[UploadedObject] = []
    marker = f"{key_prefix}/{MARKER}"
    for key, path in keys.items():
        differs = _differs(target, key, path) is not False
        if differs and earlier.may_exist and (key != marker or earlier.stale):
            _withdraw(target, marker, earlier.stale)
            earlier = _Earlier(may_exist=False)
        if differs and key == marker:
            _check_all(target, keys, marker)
        if differs:
            target.send(path, key, acl)
        done.append(UploadedObject(key, sent=differs))
        log.debug("%d of %d: %s %s", len(done), len(keys), key, "sent" if differs else "was there already")
    return done


def compare_folder(root: Path, bucket: str, key_prefix: str) -> dict[str, str]:
    """Return the differences between the files of a folder and their objects, by S3's checksums: key to difference."""
    target = Bucket(bucket, "Check the bucket's name and the credentials; they need s3:GetObject and s3:ListBucket")
    keys = _keys(root, key_prefix)
    # later commands, refused ones among them, have added to the log
    found = {key: target.difference(key, path, grows=path == root / GROWING) for key, path in keys.items()}
    _earlier(target, root, key_prefix)
    foreign = islice((key for key in target.keys(f"{key_prefix}/") if key not in keys), _FOREIGN)
    found |= dict.fromkeys(foreign, "the folder has no such file")
    return {key: difference for key, difference in found.items() if difference}


def _resuming(root: Path, bucket: str, acl: str | None) -> str:
    """Say how a failed upload is resumed."""
    return f"The folder {root} stays as it is; send what is missing with {command_of(root, bucket, acl)}"


def command_of(root: Path, bucket: str, acl: str | None) -> str:
    """Return the command that sends what is missing of an upload, in backticks."""
    options = f"--bucket {bucket}" + (f" --acl {acl}" if acl else "")
    return f"`nd-synapse upload {shlex.quote(str(root))} {options}`"


def _keys(root: Path, key_prefix: str) -> dict[str, Path]:
    """Return the deliverable file of every key, in the order of upload: the marker last."""
    segments = key_prefix.split("/")
    if not key_prefix.isprintable() or any(segment in ("", ".", "..") for segment in segments):
        raise UsageError(
            f"key prefix {key_prefix!r}",
            "it has an empty, '.' or '..' segment, or a control character",
            "Give names joined by single slashes",
        )
    files = sorted(deliverables(root), key=lambda path: path == root / MARKER)
    if not files:
        raise UsageError(f"uploading {root}", "there is no file in it", "Give the folder of a results key")
    keys = {f"{key_prefix}/{path.relative_to(root).as_posix()}": path for path in files}
    for key in keys:
        # file names that are no UTF-8 come as lone surrogates, which no key can hold
        if len(key.encode(errors="replace")) > 1024 or "\\udc" in ascii(key):
            raise UsageError(f"the key {key!a}", "S3 takes at most 1024 bytes of UTF-8", "Rename the file")
    return keys


def _differs(target: Bucket, key: str, path: Path) -> bool | None:
    """Return whether an object differs from its file; None where the role has no right to look."""
    try:
        return bool(target.difference(key, path))
    except PermissionDeniedError:
        return None


def _earlier(target: Bucket, root: Path, key_prefix: str) -> _Earlier:
    """Look for an earlier upload below a prefix; refuse one of another experiment, or one that is more complete."""
    try:
        body = target.read(f"{key_prefix}/{MARKER}", MOST_BYTES)
    except UnknownNameError:
        return _Earlier(may_exist=False)
    except PermissionDeniedError:
        return _Earlier(may_exist=True)
    before = None if body is None else outline_of(body)
    if before is None:
        return _Earlier(may_exist=True)
    now = outline_in(root)
    place = f"s3://{target.name}/{key_prefix}/"
    if now is None:
        raise UsageError(
            place,
            "it has a complete run, and the folder has no run.json, for its own run did not end",
            "Let the run end, or choose another bucket",
        )
    if before.volume != now.volume:
        raise UsageError(
            place,
            f"it has a run of {'/'.join(before.volume)}, the folder has one of {'/'.join(now.volume)}",
            "Their results keys are the same: choose another bucket",
        )
    kept = {path.relative_to(root).as_posix() for path in deliverables(root)} | now.files
    return _Earlier(True, [f"{key_prefix}/{name}" for name in sorted(before.files - kept)])


def _check_all(target: Bucket, keys: Mapping[str, Path], marker: str) -> None:
    """Refuse to write the marker if another upload has replaced objects in the meantime."""
    others = [key for key, path in keys.items() if key != marker and _differs(target, key, path)]
    if others:
        raise StorageError(
            f"uploading to s3://{target.name}/{marker.rpartition('/')[0]}/",
            f"another upload writes there: {few(others)} changed since",
            "Let the other one end, then upload again",
        )


def _withdraw(target: Bucket, marker: str, stale: Sequence[str]) -> None:
    """Delete an outdated `run.json`, whether it is there or not, and then what it alone lists."""
    if not target.delete(marker):
        log.warning(
            "s3://%s/%s of an earlier upload, if there is one, stays until this one ends: the role has no"
            " s3:DeleteObject",
            target.name,
            marker,
        )
    for number, key in enumerate(stale):
        is_deleted = False
        try:
            is_deleted = target.delete(key)
        finally:
            # no later upload can find them: the list of them is gone
            if not is_deleted:
                left = few(stale[number:])
                log.warning("objects of an earlier upload stay in %s, to be deleted by you: %s", target.name, left)
        if not is_deleted:
            return
        log.info("deleted s3://%s/%s of an earlier upload, which this one does not have", target.name, key)
