"""Metadata keys and reserved object ids of resources; rights are checked by the callers."""

from __future__ import annotations

from nd_synapse.local_boss.database import Database
from nd_synapse.local_boss.models import Channel, Collection, Experiment
from nd_synapse.local_boss.responses import BossError, Code

__all__ = ["delete_metadata", "get_metadata", "list_metadata", "put_metadata", "reserve_ids"]

LARGEST_ID = 2**63 - 1

Resource = Collection | Experiment | Channel


def _owner(resource: Resource) -> str:
    return f"{type(resource).__name__} {resource.id}"


def _refused(message: str) -> BossError:
    return BossError(400, Code.INVALID_POST_ARGUMENT, message)


def list_metadata(database: Database, resource: Resource) -> list[str]:
    """Return the keys of a resource, sorted."""
    with database.reading() as db:
        rows = db.execute("SELECT key FROM metadata WHERE owner = ? ORDER BY key", [_owner(resource)])
        return [row["key"] for row in rows]


def get_metadata(database: Database, resource: Resource, key: str) -> str:
    """Return the value of a key; 400/1003 if there is none."""
    with database.reading() as db:
        sql = "SELECT value FROM metadata WHERE owner = ? AND key = ?"
        row = db.execute(sql, [_owner(resource), key]).fetchone()
    if row is None:
        raise _refused(f"Invalid request. Key {key} does not exist.")
    return str(row["value"])


def put_metadata(database: Database, resource: Resource, key: str, value: str, new: bool) -> None:
    """Store the value of a key that must be `new`, or must not be; 400/1003 otherwise."""
    row = {"owner": _owner(resource), "key": key, "value": value}
    if new:
        sql = "INSERT INTO metadata (owner, key, value) VALUES (:owner, :key, :value) ON CONFLICT DO NOTHING"
    else:
        sql = "UPDATE metadata SET value = :value WHERE owner = :owner AND key = :key"
    with database.writing() as db:
        if not db.execute(sql, row).rowcount:
            raise _refused(f"Invalid request. Key {key} {'already exists' if new else 'does not exist'}.")


def delete_metadata(database: Database, resource: Resource, key: str) -> None:
    """Forget a key; 400/1003 if there is none."""
    with database.writing() as db:
        sql = "DELETE FROM metadata WHERE owner = ? AND key = ?"
        if not db.execute(sql, [_owner(resource), key]).rowcount:
            raise _refused(f"Invalid request. Key {key} does not exist.")


def reserve_ids(database: Database, channel: Channel, count: int) -> int:
    """Reserve `count` object ids of an annotation channel, from 1, and return the first; 400/1005 if none are left."""
    with database.writing() as db:
        first = int(db.execute("SELECT next_id FROM channels WHERE id = ?", [channel.id]).fetchone()["next_id"])
        if count > LARGEST_ID - first:
            raise BossError(400, Code.INVALID_ARGUMENT, f"There are no {count} ids left.")
        db.execute("UPDATE channels SET next_id = ? WHERE id = ?", [first + count, channel.id])
        return first
