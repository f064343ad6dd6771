"""A file is written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from nd_synapse.files.atomic import replacing


@pytest.mark.parametrize("sync", [True, False])
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "table.csv"
    with replacing(path, sync=sync) as file:
        file.write(b"old")

    def interrupted() -> None:
        with replacing(path, sync=sync) as file:
            file.write(b"new")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
