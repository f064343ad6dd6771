"""Checksums of a file and of its object in S3, held against each other: that of S3 is drawn of the bytes it holds.

It changes nothing, and knows no folder; `s3` does.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from botocore import exceptions as boto_errors

from nd_synapse.aws import transfers
from nd_synapse.aws.connection import status
from nd_synapse.errors import UnavailableError

__all__ = ["fault", "seen", "sha256_of"]

_PIECE = 2**20


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def seen(client: Any, bucket: str, key: str, file: Path, sha256: str) -> bool | None:
    """Tell whether an object has the content of a file, or that nobody can tell."""
    place = {"Bucket": bucket, "Key": key}
    try:
        head = client.head_object(**place, ChecksumMode="ENABLED")
        if head.get("ContentLength", -1) != file.stat().st_size:
            return False
        if head.get("ChecksumSHA256"):
            return _same(client, place, head, file, file.stat().st_size)
    except boto_errors.ClientError as cause:
        # S3 answers 403 instead of 404 to a role that may not list the bucket: sending decides.
        if status(cause) in (400, 403, 404):
            return False if status(cause) == 404 else None
        raise
    if any(name.startswith("Checksum") for name in head):
        # one of another kind is of somebody else's upload, for ours have this one
        return False
    # some servers keep neither
    said = head["Metadata"].get("sha256")
    return None if said is None else bool(said == sha256)


def fault(client: Any, bucket: str, key: str, file: Path, *, grows: bool = False) -> str:
    """Say what is wrong with the object of a file."""
    place = {"Bucket": bucket, "Key": key}
    try:
        head = client.head_object(**place, ChecksumMode="ENABLED")
    except boto_errors.ClientError as cause:
        if status(cause) != 404:
            raise
        return "it is not there"
    size, wanted = head.get("ContentLength"), file.stat().st_size
    if size is None:
        raise UnavailableError(f"the size of {key}", "S3 does not tell it", "Check AWS_ENDPOINT_URL")
    if size > wanted or (size < wanted and not grows):
        return f"it has {size:,} bytes, the file has {wanted:,}"
    return "" if _same(client, place, head, file, size) else "its content is another one"


def _same(client: Any, place: Mapping[str, str], head: Mapping[str, Any], file: Path, size: int) -> bool:
    """Tell whether an object of some size has the first bytes of a file."""
    held = str(head.get("ChecksumSHA256", "")).partition("-")[0]
    if not held:
        # something else than us put it there: its bytes are all that can be compared
        found: bytes = transfers.fetched(client, lambda body: _digest(iter(lambda: body.read(_PIECE), b"")), **place)
        return found == _digest(_pieces(file, size, _PIECE))
    if "-" not in head.get("ETag", ""):
        return held == base64.b64encode(_digest(_pieces(file, size, _PIECE))).decode()
    # it came in parts, and S3 keeps a checksum of their checksums
    part = client.head_object(**place, PartNumber=1).get("ContentLength", 0)
    whole = _digest(hashlib.sha256(piece).digest() for piece in _pieces(file, size, part))
    return held == base64.b64encode(whole).decode()


def _digest(pieces: Iterable[bytes]) -> bytes:
    """Return the SHA-256 of pieces one after the other."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _pieces(file: Path, size: int, step: int) -> Iterator[bytes]:
    """Yield the first bytes of a file, in pieces of one size but for the last."""
    with file.open("rb") as opened:
        while size > 0 and (piece := opened.read(min(step, size))):
            size -= len(piece)
            yield piece
