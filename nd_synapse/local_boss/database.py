"""The SQLite file of a data folder: its tables, its connections and its transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue

from nd_synapse.errors import StorageError

__all__ = ["Database"]

BUSY_LIMIT_S = 30.0

_TABLES = """
CREATE TABLE IF NOT EXISTS collections (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT NOT NULL, public INTEGER NOT NULL,
    creator TEXT NOT NULL, deleted INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS frames (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT NOT NULL, creator TEXT NOT NULL,
    x_start INTEGER NOT NULL, x_stop INTEGER NOT NULL, y_start INTEGER NOT NULL, y_stop INTEGER NOT NULL,
    z_start INTEGER NOT NULL, z_stop INTEGER NOT NULL, x_voxel_size REAL NOT NULL, y_voxel_size REAL NOT NULL,
    z_voxel_size REAL NOT NULL, voxel_unit TEXT NOT NULL, deleted INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS experiments (
    id INTEGER PRIMARY KEY, collection_id INTEGER NOT NULL REFERENCES collections (id), name TEXT NOT NULL,
    description TEXT NOT NULL, public INTEGER NOT NULL, creator TEXT NOT NULL,
    frame_id INTEGER NOT NULL REFERENCES frames (id), num_hierarchy_levels INTEGER NOT NULL,
    hierarchy_method TEXT NOT NULL, num_time_samples INTEGER NOT NULL, time_step INTEGER, time_step_unit TEXT,
    deleted INTEGER NOT NULL DEFAULT 0, UNIQUE (collection_id, name)
) STRICT;
CREATE TABLE IF NOT EXISTS channels (
    id INTEGER PRIMARY KEY, experiment_id INTEGER NOT NULL REFERENCES experiments (id), name TEXT NOT NULL,
    description TEXT NOT NULL, public INTEGER NOT NULL, creator TEXT NOT NULL, type TEXT NOT NULL,
    datatype TEXT NOT NULL, base_resolution INTEGER NOT NULL, default_time_sample INTEGER NOT NULL,
    next_id INTEGER NOT NULL DEFAULT 1, deleted INTEGER NOT NULL DEFAULT 0, UNIQUE (experiment_id, name)
) STRICT;
CREATE TABLE IF NOT EXISTS sources (
    channel_id INTEGER NOT NULL REFERENCES channels (id), other_id INTEGER NOT NULL REFERENCES channels (id),
    PRIMARY KEY (channel_id, other_id)
) STRICT;
CREATE TABLE IF NOT EXISTS related (
    channel_id INTEGER NOT NULL REFERENCES channels (id), other_id INTEGER NOT NULL REFERENCES channels (id),
    PRIMARY KEY (channel_id, other_id)
) STRICT;
CREATE TABLE IF NOT EXISTS metadata (
    owner TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (owner, key)
) STRICT;
"""


class Database:
    """Connections to one SQLite file, which is made if it is missing, for several threads and processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Connections are lent to one thread at a time and reused: closing the last one of a WAL database costs a
        # checkpoint and two deleted files.
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        with self._lent() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_TABLES)

    def close(self) -> None:
        """Close the idle connections."""
        while True:
            try:
                self._idle.get_nowait().close()
            except Empty:
                return

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that sees one state of the database."""
        with self._lent() as db:
            db.execute("BEGIN")
            try:
                yield db
            finally:
                db.rollback()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that alone may write."""
        with self._lent() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.commit()
            finally:
                db.rollback()  # does nothing after the commit

    @contextmanager
    def _lent(self) -> Iterator[sqlite3.Connection]:
        try:
            try:
                db = self._idle.get_nowait()
            except Empty:
                db = self._connected()
            try:
                yield db
            finally:
                self._idle.put(db)
        except sqlite3.Error as error:
            remedy = "Check the disk of the data folder, and that no other program holds the file"
            raise StorageError(f"catalog {self._path}", str(error), remedy) from error

    def _connected(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=BUSY_LIMIT_S, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        # WAL with NORMAL: a commit survives the death of the process; only a power cut may take the last ones back.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA foreign_keys = ON")
        return db
