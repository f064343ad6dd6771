"""What is parsed takes no more memory than what it is for: files that unpack, or go on, without end are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peak import MIB, run_alone

READERS = {
    "truth": ("from pipelines.evaluate.files import read_table", "read_table(folder / 'table.csv')"),
    "report": ("from pymeda_driver import read_table", "read_table(folder / 'table.csv')"),
    "sample": ("from local_boss.sample import _read_truth", "_read_truth(folder / 'table.csv')"),
    "verify": (
        "from types import SimpleNamespace; from verification import _table",
        "_table(folder, SimpleNamespace(masks={'All': ''}, voxels={}, synapses=0, box=None), {})",
    ),
}


class TestTables:
    """Rows are read one at a time, and have an end."""

    @pytest.mark.parametrize("reader", READERS)
    def test_a_line_without_end_is_refused(self, reader: str, tmp_path: Path) -> None:
        for name in ("table.csv", "synapses.csv"):
            with (tmp_path / name).open("wb") as file:
                file.write(b"a,b\n")
                file.truncate(6 * 2**30)
        ended = run_alone(*READERS[reader], tmp_path)
        assert "line 2 has more than" in ended.error
        assert ended.grown_bytes < 32 * MIB

    @pytest.mark.parametrize("reader", READERS)
    def test_a_row_whose_cells_go_on_over_many_lines_is_refused(self, reader: str, tmp_path: Path) -> None:
        for name in ("table.csv", "synapses.csv"):
            (tmp_path / name).write_bytes(b"a,b\n" + b'"\n",' * 50_000_000)
        ended = run_alone(*READERS[reader], tmp_path)
        assert "has more than 1,048,576 characters" in ended.error
        assert ended.grown_bytes < 64 * MIB

    def test_more_columns_than_tables_have_are_refused(self, tmp_path: Path) -> None:
        """Both readers looked for each heading among all of them."""
        (tmp_path / "table.csv").write_text(",".join(map(str, range(100_000))))
        for reader in ("truth", "report"):
            ended = run_alone(*READERS[reader], tmp_path)
            assert "has 100,000 cells, more than 16,384" in ended.error

    def test_a_table_of_many_cells_is_refused_before_all_are_there(self, tmp_path: Path) -> None:
        (tmp_path / "table.csv").write_bytes((b"10," * 9_999 + b"10\n") * 6_000)
        names = ",".join(f"c{n}" for n in range(10_000))
        body = (tmp_path / "table.csv").read_bytes()
        (tmp_path / "table.csv").write_bytes(names.encode() + b"\n" + body)
        ended = run_alone(*READERS["truth"], tmp_path, limit_bytes=6 * 2**30)
        assert "more than 4,000 rows of 10,000 cells" in ended.error
        text = "import pymeda_driver; pymeda_driver._MOST_NUMBERS = 10_000_000\nfrom pymeda_driver import read_table"
        ended = run_alone(text, "read_table(folder / 'table.csv')", tmp_path)
        assert "it has more than 10,000,000 cells" in ended.error
        assert ended.grown_bytes < 500 * MIB

    def test_many_columns_are_compared_in_no_time(self, tmp_path: Path) -> None:
        (tmp_path / "table.csv").write_text(",".join(map(str, range(16_384))) + "\n")
        setup = "import time\n" + READERS["truth"][0]
        timed = f"start = time.process_time()\n{READERS['truth'][1]}\nassert time.process_time() - start < 1"
        assert run_alone(setup, timed, tmp_path).error == ""
