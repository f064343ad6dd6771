"""The catalog of a data folder: its collections, coordinate frames, experiments and channels, in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nd_synapse.local_boss import schema
from nd_synapse.local_boss.database import Database
from nd_synapse.local_boss.models import Channel, Collection, CoordinateFrame, Experiment
from nd_synapse.local_boss.responses import BossError, Code, MissingError, field_error

__all__ = ["LOCAL_USER", "Catalog", "check_total_name"]

LOCAL_USER = "local"
"""The creator of what ingest and sample make."""

Fields = Mapping[str, object]
Row = sqlite3.Row

_EXPERIMENT = """
    SELECT e.*, c.name AS collection, f.name AS coord_frame FROM experiments e
    JOIN collections c ON c.id = e.collection_id JOIN frames f ON f.id = e.frame_id
"""
_CHANNEL = """
    SELECT h.*, e.name AS experiment, c.name AS collection, e.num_time_samples, f.z_stop, f.y_stop, f.x_stop
    FROM channels h JOIN experiments e ON e.id = h.experiment_id
    JOIN collections c ON c.id = e.collection_id JOIN frames f ON f.id = e.frame_id
"""


class Catalog:
    """Create, read, update, delete and list the resources of a data folder; each call is one transaction.

    `fields` are those of BOSS's JSON and are checked here. Errors are `BossError`: 404/4000 for what does not exist,
    404/4005 for what was deleted, 400/1003 for a wrong field or a name that is taken, if by a deleted resource.
    """

    def __init__(self, root: Path, strict: bool = False) -> None:
        self.database = Database(root / "catalog.sqlite")
        self._strict = strict

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    # collections

    def create_collection(self, name: str, fields: Fields | None = None, creator: str = LOCAL_USER) -> Collection:
        """Make a collection and return it."""
        values = {"name": schema.check_name(name), **schema.COLLECTION.for_creation(fields or {})}
        with self.database.writing() as db:
            if db.execute("SELECT 1 FROM collections WHERE name = ?", [name]).fetchone():
                raise field_error("name", "collection with this Name of the Collection already exists.", "unique")
            _insert(db, "collections", {**values, "creator": creator})
            return _collection(_collection_row(db, name))

    def get_collection(self, name: str) -> Collection:
        """Return a collection."""
        with self.database.reading() as db:
            return _collection(_collection_row(db, name))

    def list_collections(self) -> list[Collection]:
        """Return all collections, by name."""
        with self.database.reading() as db:
            rows = db.execute("SELECT * FROM collections WHERE NOT deleted ORDER BY name")
            return [_collection(row) for row in rows]

    def update_collection(self, name: str, fields: Fields) -> Collection:
        """Change a collection and return it."""
        changes = schema.COLLECTION.for_update(fields)
        with self.database.writing() as db:
            row = _collection_row(db, name)
            _rename_check(db, "collections", "name = :name", row, changes)
            _update(db, "collections", row["id"], changes)
            self._check_channels_below(db, "e.collection_id", row["id"])
            return _collection(_collection_row(db, str(changes.get("name", name))))

    def delete_collection(self, name: str) -> None:
        """Hide a collection that has no experiments; 400/4003 if it has."""
        with self.database.writing() as db:
            row = _collection_row(db, name)
            if db.execute("SELECT 1 FROM experiments WHERE collection_id = ? AND NOT deleted", [row["id"]]).fetchone():
                raise _in_use(f"Collection {name} has experiments that reference it")
            _hide(db, "collections", row["id"])

    # coordinate frames

    def create_coordinate_frame(self, name: str, fields: Fields, creator: str = LOCAL_USER) -> CoordinateFrame:
        """Make a coordinate frame and return it."""
        values = {"name": schema.check_name(name), **schema.COORDINATE_FRAME.for_creation(fields)}
        with self.database.writing() as db:
            if db.execute("SELECT 1 FROM frames WHERE name = ?", [name]).fetchone():
                text = "coordinate frame with this Name of the Coordinate reference frame already exists."
                raise field_error("name", text, "unique")
            _insert(db, "frames", {**values, "creator": creator})
            return _frame(_frame_row(db, name))

    def get_coordinate_frame(self, name: str) -> CoordinateFrame:
        """Return a coordinate frame."""
        with self.database.reading() as db:
            return _frame(_frame_row(db, name))

    def list_coordinate_frames(self) -> list[CoordinateFrame]:
        """Return all coordinate frames, by name."""
        with self.database.reading() as db:
            return [_frame(row) for row in db.execute("SELECT * FROM frames WHERE NOT deleted ORDER BY name")]

    def update_coordinate_frame(self, name: str, fields: Fields) -> CoordinateFrame:
        """Change the name or the description of a coordinate frame and return it."""
        changes = schema.COORDINATE_FRAME.for_update(fields)
        with self.database.writing() as db:
            row = _frame_row(db, name)
            _rename_check(db, "frames", "name = :name", row, changes)
            _update(db, "frames", row["id"], changes)
            return _frame(_frame_row(db, str(changes.get("name", name))))

    def delete_coordinate_frame(self, name: str) -> None:
        """Hide a coordinate frame that no experiment uses; 400/4003 if one does."""
        with self.database.writing() as db:
            row = _frame_row(db, name)
            if db.execute("SELECT 1 FROM experiments WHERE frame_id = ? AND NOT deleted", [row["id"]]).fetchone():
                raise _in_use(f"Coordinate frame {name} has experiments that reference it")
            _hide(db, "frames", row["id"])

    # experiments

    def create_experiment(self, collection: str, name: str, fields: Fields, creator: str = LOCAL_USER) -> Experiment:
        """Make an experiment and return it; ``coord_frame`` names an existing frame."""
        values = {"name": schema.check_name(name), **schema.EXPERIMENT.for_creation(fields)}
        with self.database.writing() as db:
            owner = _collection_row(db, collection)
            frame = _frame_row(db, str(values.pop("coord_frame")))
            key = {"collection_id": owner["id"], "name": name}
            if db.execute(
                "SELECT 1 FROM experiments WHERE collection_id = :collection_id AND name = :name", key
            ).fetchone():
                raise _not_unique("collection, name")
            _insert(db, "experiments", {**values, **key, "frame_id": frame["id"], "creator": creator})
            return _experiment(_experiment_row(db, collection, name))

    def get_experiment(self, collection: str, name: str) -> Experiment:
        """Return an experiment."""
        with self.database.reading() as db:
            return _experiment(_experiment_row(db, collection, name))

    def list_experiments(self, collection: str) -> list[Experiment]:
        """Return the experiments of a collection, by name."""
        with self.database.reading() as db:
            owner = _collection_row(db, collection)
            sql = f"{_EXPERIMENT} WHERE e.collection_id = ? AND NOT e.deleted ORDER BY e.name"
            return [_experiment(row) for row in db.execute(sql, [owner["id"]])]

    def update_experiment(self, collection: str, name: str, fields: Fields) -> Experiment:
        """Change an experiment and return it."""
        changes = schema.EXPERIMENT.for_update(fields)
        with self.database.writing() as db:
            row = _experiment_row(db, collection, name)
            _rename_check(db, "experiments", "name = :name AND collection_id = :collection_id", row, changes)
            _update(db, "experiments", row["id"], changes)
            self._check_channels_below(db, "h.experiment_id", row["id"])
            return _experiment(_experiment_row(db, collection, str(changes.get("name", name))))

    def delete_experiment(self, collection: str, name: str) -> None:
        """Hide an experiment that has no channels; 400/4003 if it has."""
        with self.database.writing() as db:
            row = _experiment_row(db, collection, name)
            if db.execute("SELECT 1 FROM channels WHERE experiment_id = ? AND NOT deleted", [row["id"]]).fetchone():
                raise _in_use(f"Experiment {name} has channels that reference it")
            _hide(db, "experiments", row["id"])

    # channels

    def create_channel(
        self, collection: str, experiment: str, name: str, fields: Fields, creator: str = LOCAL_USER
    ) -> Channel:
        """Make a channel and return it; its sources and related channels must exist in the experiment."""
        values = {"name": schema.check_name(name), **schema.CHANNEL.for_creation(fields)}
        links = {kind: values.pop(kind) for kind in ("sources", "related")}
        with self.database.writing() as db:
            owner = _experiment_row(db, collection, experiment)
            key = {"experiment_id": owner["id"], "name": name}
            if db.execute(
                "SELECT 1 FROM channels WHERE experiment_id = :experiment_id AND name = :name", key
            ).fetchone():
                raise _not_unique("experiment, name")
            _check_time_sample(values, owner["num_time_samples"])
            channel_id = _insert(db, "channels", {**values, **key, "creator": creator})
            _link(db, owner["id"], channel_id, links)
            self._check_channels_below(db, "h.id", channel_id)
            return _channel(db, _channel_row(db, collection, experiment, name))

    def get_channel(self, collection: str, experiment: str, name: str) -> Channel:
        """Return a channel."""
        with self.database.reading() as db:
            return _channel(db, _channel_row(db, collection, experiment, name))

    def list_channels(self, collection: str, experiment: str) -> list[Channel]:
        """Return the channels of an experiment, by name."""
        with self.database.reading() as db:
            owner = _experiment_row(db, collection, experiment)
            sql = f"{_CHANNEL} WHERE h.experiment_id = ? AND NOT h.deleted ORDER BY h.name"
            return [_channel(db, row) for row in db.execute(sql, [owner["id"]])]

    def update_channel(self, collection: str, experiment: str, name: str, fields: Fields) -> Channel:
        """Change a channel and return it; sources and related channels that are not given are taken away."""
        readonly = sorted(schema.CHANNEL.fixed & fields.keys())
        if readonly:
            message = f"Cannot update the following readonly fields: {', '.join(readonly)}"
            raise BossError(400, Code.INVALID_POST_ARGUMENT, message)
        changes = schema.CHANNEL.for_update(fields)
        links = {kind: changes.pop(kind, ()) for kind in ("sources", "related")}
        with self.database.writing() as db:
            row = _channel_row(db, collection, experiment, name)
            _rename_check(db, "channels", "name = :name AND experiment_id = :experiment_id", row, changes)
            _check_time_sample(changes, row["num_time_samples"])
            _update(db, "channels", row["id"], changes)
            _link(db, row["experiment_id"], row["id"], links)
            self._check_channels_below(db, "h.id", row["id"])
            return _channel(db, _channel_row(db, collection, experiment, str(changes.get("name", name))))

    def delete_channel(self, collection: str, experiment: str, name: str) -> None:
        """Hide a channel and its voxels; 400/4003 if it is a source of another one."""
        with self.database.writing() as db:
            row = _channel_row(db, collection, experiment, name)
            sql = (
                "SELECT 1 FROM sources s JOIN channels h ON h.id = s.channel_id WHERE s.other_id = ? AND NOT h.deleted"
            )
            if db.execute(sql, [row["id"]]).fetchone():
                raise _in_use(f"Channel {name} is a source of other channels")
            _hide(db, "channels", row["id"])

    def _check_channels_below(self, db: sqlite3.Connection, column: str, owner: int) -> None:
        """Refuse names that are too long together: the real server makes such channels and then fails on each use."""
        if not self._strict:
            for row in db.execute(f"{_CHANNEL} WHERE {column} = ?", [owner]):
                check_total_name(row["collection"], row["experiment"], row["name"])


def check_total_name(*names: str) -> None:
    """Refuse names that BOSS cannot look up together."""
    total = len("&".join(names))
    if total > schema.LONGEST_NAME:
        message = f"The names of collection, experiment and channel take {total} of {schema.LONGEST_NAME} characters."
        raise BossError(400, Code.INVALID_POST_ARGUMENT, message)


def _in_use(reason: str) -> BossError:
    return BossError(400, Code.INTEGRITY_ERROR, f"{reason} and cannot be deleted. Please delete those first.")


def _not_unique(fields: str) -> BossError:
    return field_error("non_field_errors", f"The fields {fields} must make a unique set.", "unique")


def _alive(kind: str, name: str, row: Row | None) -> Row:
    if row is None:
        raise MissingError(kind, name)
    if row["deleted"]:
        raise BossError(404, Code.MARKED_FOR_DELETION, f"{kind} {name} has been marked for deletion.")
    return row


def _collection_row(db: sqlite3.Connection, name: str) -> Row:
    row = db.execute("SELECT * FROM collections WHERE name = ?", [name]).fetchone()
    return _alive("Collection", name, row)


def _frame_row(db: sqlite3.Connection, name: str) -> Row:
    row = db.execute("SELECT * FROM frames WHERE name = ?", [name]).fetchone()
    return _alive("Coordinate frame", name, row)


def _experiment_row(db: sqlite3.Connection, collection: str, name: str) -> Row:
    owner = _collection_row(db, collection)
    row = db.execute(f"{_EXPERIMENT} WHERE e.collection_id = ? AND e.name = ?", [owner["id"], name]).fetchone()
    return _alive("Experiment", name, row)


def _channel_row(db: sqlite3.Connection, collection: str, experiment: str, name: str) -> Row:
    owner = _experiment_row(db, collection, experiment)
    row = db.execute(f"{_CHANNEL} WHERE h.experiment_id = ? AND h.name = ?", [owner["id"], name]).fetchone()
    return _alive("Channel", name, row)


def _insert(db: sqlite3.Connection, table: str, values: Mapping[str, Any]) -> int:
    columns = ", ".join(values)
    marks = ", ".join(f":{column}" for column in values)
    cursor = db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)  # noqa: S608 - names of ours
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _update(db: sqlite3.Connection, table: str, row_id: int, changes: Mapping[str, Any]) -> None:
    if changes:
        assignments = ", ".join(f"{column} = :{column}" for column in changes)
        db.execute(f"UPDATE {table} SET {assignments} WHERE id = :id", {**changes, "id": row_id})  # noqa: S608


def _hide(db: sqlite3.Connection, table: str, row_id: int) -> None:
    db.execute(f"UPDATE {table} SET deleted = 1 WHERE id = ?", [row_id])  # noqa: S608


def _rename_check(db: sqlite3.Connection, table: str, key: str, row: Row, changes: Mapping[str, object]) -> None:
    """Refuse a new name that another resource has, hidden ones included."""
    wanted = {**dict(row), **changes}
    taken = db.execute(f"SELECT 1 FROM {table} WHERE {key} AND id != :id", wanted).fetchone()  # noqa: S608
    if taken:
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
        WHERE l.channel_id = ? AND NOT h.deleted ORDER BY h.name
    """  # noqa: S608
    return tuple(row["name"] for row in db.execute(sql, [channel_id]))


def _collection(row: Row) -> Collection:
    return Collection(row["id"], row["name"], row["description"], bool(row["public"]), row["creator"])


def _frame(row: Row) -> CoordinateFrame:
    values = dict(row)
    del values["deleted"]
    return CoordinateFrame(**values)


def _experiment(row: Row) -> Experiment:
    values = {key: row[key] for key in Experiment.__dataclass_fields__}
    return Experiment(**{**values, "public": bool(row["public"])})


def _channel(db: sqlite3.Connection, row: Row) -> Channel:
    plain = ("id", "collection", "experiment", "name", "description", "creator", "type", "datatype")
    return Channel(
        **{key: row[key] for key in plain},
        public=bool(row["public"]),
        base_resolution=row["base_resolution"],
        default_time_sample=row["default_time_sample"],
        frame_stop=(row["z_stop"], row["y_stop"], row["x_stop"]),
        time_samples=row["num_time_samples"],
        sources=_linked(db, "sources", row["id"]),
        related=_linked(db, "related", row["id"]),
    )
