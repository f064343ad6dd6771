"""The catalog of a data folder: its collections, coordinate frames, experiments and channels, in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from nd_synapse.local_boss import schema
from nd_synapse.local_boss.database import Database
from nd_synapse.local_boss.models import Channel, Collection, CoordinateFrame, Experiment
from nd_synapse.local_boss.responses import BossError, Code, MissingError, field_error

__all__ = [
    "CATALOG_FILE",
    "CHANNELS",
    "COLLECTIONS",
    "EXPERIMENTS",
    "FRAMES",
    "LOCAL_USER",
    "Catalog",
    "Kind",
    "check_total_name",
]

CATALOG_FILE = "catalog.sqlite"
LOCAL_USER = "local"
"""The creator of what ingest and sample make."""

Fields = Mapping[str, object]
Row = sqlite3.Row
T = TypeVar("T")

_LINKS = ("sources", "related")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[T]):
    """A kind of resource: how it is stored, and what BOSS says of it."""

    title: str
    """Its name in messages."""
    table: str
    select: str
    """The start of a query for what `made` needs; its own table is called t."""
    made: Callable[[sqlite3.Connection, Row], T]
    schema: schema.Schema
    parent: Kind[Any] | None = None
    owner: str = ""
    """The column of the parent."""
    taken: tuple[str, str]
    """Field and text of the error for a name that is taken."""
    users: str
    """A query for what keeps it from being deleted."""
    in_use: str
    """The reason that is given then."""
    channels: str | None
    """The column by which `_CHANNEL` finds the channels in it; None where names do not add up."""


class Catalog:
    """Create, read, update, delete and list the resources of a data folder; each call is one transaction.

    `names` are those of the resource and of what it lies in, the outermost first. `fields` are those of BOSS's JSON and
    are checked here. Errors are `BossError`: 404/4000 for what does not exist, 404/4005 for what was deleted, 400/1003
    for a wrong field or a name that is taken, if by a deleted resource, 400/4003 for what others need.
    """

    def __init__(self, root: Path, strict: bool = False) -> None:
        self.database = Database(root / CATALOG_FILE)
        self._strict = strict

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def create(self, kind: Kind[T], *names: str, fields: Fields | None = None, creator: str = LOCAL_USER) -> T:
        """Make a resource and return it; what its fields name must exist."""
        values: dict[str, Any] = {"name": schema.check_name(names[-1]), **kind.schema.for_creation(fields or {})}
        links = {link: values.pop(link) for link in _LINKS if link in values}
        with self.database.writing() as db:
            owner = None if kind.parent is None else _row(db, kind.parent, *names[:-1])
            if owner is not None:
                values[kind.owner] = owner["id"]
            if "coord_frame" in values:
                values["frame_id"] = _row(db, FRAMES, str(values.pop("coord_frame")))["id"]
            if _find(db, kind, names[-1], owner) is not None:
                raise field_error(*kind.taken, "unique")
            if owner is not None and "default_time_sample" in values:
                _check_time_sample(values, owner["num_time_samples"])
            row_id = _insert(db, kind.table, {**values, "creator": creator})
            if links and owner is not None:
                _link(db, owner["id"], row_id, links)
            self._check_names_within(db, kind, row_id)
            return kind.made(db, _row(db, kind, *names))

    def get(self, kind: Kind[T], *names: str, deleted: bool = False) -> T:
        """Return a resource; one that was deleted only if `deleted`."""
        with self.database.reading() as db:
            return kind.made(db, _row(db, kind, *names, deleted=deleted))

    def listed(self, kind: Kind[T], *names: str) -> list[T]:
        """Return the resources of a kind in the parent of these names, as they were made."""
        with self.database.reading() as db:
            sql, values = f"{kind.select} WHERE NOT t.deleted", []
            if kind.parent is not None:
                sql, values = f"{sql} AND t.{kind.owner} = ?", [_row(db, kind.parent, *names)["id"]]
            return [kind.made(db, row) for row in db.execute(f"{sql} ORDER BY t.id", values)]

    def update(self, kind: Kind[T], *names: str, fields: Fields) -> T:
        """Change a resource and return it; sources and related channels that are not given are taken away."""
        changes: dict[str, Any] = kind.schema.for_update(fields)
        links = {link: changes.pop(link, ()) for link in _LINKS}
        with self.database.writing() as db:
            row = _row(db, kind, *names)
            _rename_check(db, kind, row, changes)
            if kind is CHANNELS:
                _check_time_sample(changes, row["num_time_samples"])
            _update(db, kind.table, row["id"], changes)
            if kind is CHANNELS:
                _link(db, row["experiment_id"], row["id"], links)
            self._check_names_within(db, kind, row["id"])
            return kind.made(db, _row(db, kind, *names[:-1], str(changes.get("name", names[-1]))))

    def channel_ids(self) -> set[int]:
        """Return the numbers of all channels that were ever made."""
        with self.database.reading() as db:
            return {int(row["id"]) for row in db.execute("SELECT id FROM channels")}

    def delete(self, kind: Kind[Any], *names: str) -> None:
        """Hide a resource that no other needs, and its voxels."""
        with self.database.writing() as db:
            row = _row(db, kind, *names)
            if db.execute(kind.users, [row["id"]]).fetchone():
                message = f"{kind.title} {names[-1]} {kind.in_use} and cannot be deleted. Please delete those first."
                raise BossError(400, Code.INTEGRITY_ERROR, message)
            _update(db, kind.table, row["id"], {"deleted": True})

    def _check_names_within(self, db: sqlite3.Connection, kind: Kind[Any], row_id: int) -> None:
        """Refuse names that are too long together: the real server makes such channels and then fails on each use."""
        if not self._strict and kind.channels is not None:
            for row in db.execute(f"{_CHANNEL} WHERE {kind.channels} = ?", [row_id]):
                check_total_name(row["collection"], row["experiment"], row["name"])


def check_total_name(*names: str) -> None:
    """Refuse names that BOSS cannot look up together."""
    total = len("&".join(names))
    if total > schema.LONGEST_NAME:
        message = f"The names of collection, experiment and channel take {total} of {schema.LONGEST_NAME} characters."
        raise BossError(400, Code.INVALID_POST_ARGUMENT, message)


def _row(db: sqlite3.Connection, kind: Kind[Any], *names: str, deleted: bool = False) -> Row:
    """Return the row of a resource, and refuse one that does not exist; a deleted one only if `deleted` is not set."""
    owner = None if kind.parent is None else _row(db, kind.parent, *names[:-1], deleted=deleted)
    row = _find(db, kind, names[-1], owner)
    if row is None:
        raise MissingError(kind.title, names[-1])
    if row["deleted"] and not deleted:
        raise BossError(404, Code.MARKED_FOR_DELETION, f"{kind.title} {names[-1]} has been marked for deletion.")
    return row


def _find(db: sqlite3.Connection, kind: Kind[Any], name: str, owner: Row | None) -> Row | None:
    """Return the row of a name, deleted or not."""
    if owner is None:
        found = db.execute(f"{kind.select} WHERE t.name = ?", [name])
    else:
        found = db.execute(f"{kind.select} WHERE t.name = ? AND t.{kind.owner} = ?", [name, owner["id"]])
    row: Row | None = found.fetchone()
    return row


def _insert(db: sqlite3.Connection, table: str, values: Mapping[str, Any]) -> int:
    columns = ", ".join(values)
    marks = ", ".join(f":{column}" for column in values)
    cursor = db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)  # noqa: S608 - names of ours
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _update(db: sqlite3.Connection, table: str, row_id: int, changes: Mapping[str, Any]) -> None:
    if changes:
        assignments = ", ".join(f"{column} = :{column}" for column in changes)
        db.execute(f"UPDATE {table} SET {assignments} WHERE id = :id", {**changes, "id": row_id})  # noqa: S608 - names of ours


def _rename_check(db: sqlite3.Connection, kind: Kind[Any], row: Row, changes: Mapping[str, object]) -> None:
    """Refuse a new name that another resource has, hidden ones included."""
    wanted = {**dict(row), **changes}
    siblings = f"AND {kind.owner} = :{kind.owner}" if kind.owner else ""
    sql = f"SELECT 1 FROM {kind.table} WHERE name = :name {siblings} AND id != :id"  # noqa: S608 - names of ours
    if db.execute(sql, wanted).fetchone():
        raise field_error("name", f"{wanted['name']} already exists.", "unique")


def _check_time_sample(values: Mapping[str, Any], samples: int) -> None:
    if values.get("default_time_sample", 0) >= samples:
        message = f"Ensure this value is less than the {samples} time samples of the experiment."
        raise field_error("default_time_sample", message)


def _link(db: sqlite3.Connection, experiment_id: int, channel_id: int, links: Mapping[str, Any]) -> None:
    """Make the sources and the related channels of a channel exactly those that are named."""
    both = set(links["sources"]) & set(links["related"])
    if both:
        message = f"Related channels have to be different from source channels: {', '.join(sorted(both))}"
        raise BossError(400, Code.INVALID_POST_ARGUMENT, message)
    db.execute("DELETE FROM sources WHERE channel_id = ?", [channel_id])
    db.execute("DELETE FROM related WHERE channel_id = :id OR other_id = :id", {"id": channel_id})
    sql = "SELECT id FROM channels WHERE experiment_id = ? AND name = ? AND id != ? AND NOT deleted"
    for kind, names in links.items():
        for name in names:
            other = db.execute(sql, [experiment_id, name, channel_id]).fetchone()
            if other is None:
                message = f"Invalid {kind} channel {name}: it has to be another channel of this experiment."
                raise BossError(400, Code.INVALID_POST_ARGUMENT, message)
            _insert(db, kind, {"channel_id": channel_id, "other_id": other["id"]})
            if kind == "related":
                _insert(db, kind, {"channel_id": other["id"], "other_id": channel_id})


def _linked(db: sqlite3.Connection, table: str, channel_id: int) -> tuple[str, ...]:
    sql = f"""
        SELECT h.name FROM {table} l JOIN channels h ON h.id = l.other_id
        WHERE l.channel_id = ? AND NOT h.deleted ORDER BY h.id
    """  # noqa: S608 - a name of ours
    return tuple(row["name"] for row in db.execute(sql, [channel_id]))


def _made(model: type[T], row: Row, **more: object) -> T:
    """Return a row as a value of a model."""
    fields = model.__dataclass_fields__  # type: ignore[attr-defined] # it is a dataclass
    values = {name: row[name] for name in row.keys() if name in fields} | more  # noqa: SIM118 - a row holds values
    if "public" in values:
        values["public"] = bool(values["public"])
    return model(**values)


def _channel(db: sqlite3.Connection, row: Row) -> Channel:
    return _made(
        Channel,
        row,
        frame_stop=(row["z_stop"], row["y_stop"], row["x_stop"]),
        time_samples=row["num_time_samples"],
        sources=_linked(db, "sources", row["id"]),
        related=_linked(db, "related", row["id"]),
    )


_CHANNEL = """
    SELECT t.*, e.name AS experiment, c.name AS collection, e.num_time_samples, f.z_stop, f.y_stop, f.x_stop
    FROM channels t JOIN experiments e ON e.id = t.experiment_id
    JOIN collections c ON c.id = e.collection_id JOIN frames f ON f.id = e.frame_id
"""

COLLECTIONS = Kind(
    title="Collection",
    table="collections",
    select="SELECT * FROM collections t",
    made=lambda _db, row: _made(Collection, row),
    schema=schema.COLLECTION,
    taken=("name", "collection with this Name of the Collection already exists."),
    users="SELECT 1 FROM experiments WHERE collection_id = ? AND NOT deleted",
    in_use="has experiments that reference it",
    channels="e.collection_id",
)
FRAMES = Kind(
    title="Coordinate frame",
    table="frames",
    select="SELECT * FROM frames t",
    made=lambda _db, row: _made(CoordinateFrame, row),
    schema=schema.COORDINATE_FRAME,
    taken=("name", "coordinate frame with this Name of the Coordinate reference frame already exists."),
    users="SELECT 1 FROM experiments WHERE frame_id = ? AND NOT deleted",
    in_use="has experiments that reference it",
    channels=None,
)
EXPERIMENTS = Kind(
    title="Experiment",
    table="experiments",
    select="""
        SELECT t.*, c.name AS collection, f.name AS coord_frame FROM experiments t
        JOIN collections c ON c.id = t.collection_id JOIN frames f ON f.id = t.frame_id
    """,
    made=lambda _db, row: _made(Experiment, row),
    schema=schema.EXPERIMENT,
    parent=COLLECTIONS,
    owner="collection_id",
    taken=("non_field_errors", "The fields collection, name must make a unique set."),
    users="SELECT 1 FROM channels WHERE experiment_id = ? AND NOT deleted",
    in_use="has channels that reference it",
    channels="t.experiment_id",
)
CHANNELS = Kind(
    title="Channel",
    table="channels",
    select=_CHANNEL,
    made=_channel,
    schema=schema.CHANNEL,
    parent=EXPERIMENTS,
    owner="experiment_id",
    taken=("non_field_errors", "The fields experiment, name must make a unique set."),
    users="SELECT 1 FROM sources s JOIN channels h ON h.id = s.channel_id WHERE s.other_id = ? AND NOT h.deleted",
    in_use="is a source of other channels",
    channels="t.id",
)
