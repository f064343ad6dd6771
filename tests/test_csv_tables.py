"""The one reader of tables, and its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nd_synapse.errors import DataError
from nd_synapse.files.csv_tables import read_rows
from nd_synapse.report import table_file


def test_rows_follow_the_header_and_empty_lines_and_rows_are_left_out(tmp_path: Path) -> None:
    """As spreadsheets save: a byte order mark, carriage returns, quotes where a cell has a comma or a line end."""
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbf a ,b\r\n"1,5",x\r\n\r\n"two\nlines",\r\n,\r\n')
    assert list(read_rows(tmp_path / "a.csv")) == [["a", "b"], ["1,5", "x"], ["two\nlines", ""]]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no header"),
        (b",,\n1,2,3\n", "no header"),
        (b"1,2.5\n3,4\n", "numbers alone"),
        (b"a,b,a\n", "'a' heads two columns"),
        (b"a,b\n1,2\n3\n", "line 3 has 1 cells, and the header has 2"),
        (b"a,b\n\x81,2\n", "neither UTF-8, UTF-16 nor Windows-1252"),
        (b"a,b\n1\0,2\n", "NUL"),
        (b'a,b\n"1"2,3\n', "after line 2"),
        (b"a,b\n" + b"x" * 200_000, "field larger than field limit"),
    ],
    ids=[
        "empty",
        "blank",
        "no header",
        "a name twice",
        "a short row",
        "another encoding",
        "no text",
        "a stray quote",
        "no line ends",
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, body: bytes, words: str) -> None:
    (tmp_path / "a.csv").write_bytes(body)
    with pytest.raises(DataError, match=words) as caught:
        list(read_rows(tmp_path / "a.csv"))
    assert str(tmp_path / "a.csv") in str(caught.value)


@given(
    st.lists(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=2), min_size=1, max_size=9),
    st.sampled_from([(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ",")]),
    st.sampled_from(["", " ", "'", "."]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    st.integers(1, 4),
)
def test_for_any_separator_decimal_mark_grouping_and_encoding_the_numbers_are_the_same(
    tmp_path: Path, rows: list[list[float]], form: tuple[str, str], between: str, encoding: str, chunk: int
) -> None:
    """And however many rows are read at a time; one row shows what the mark is."""
    separator, mark = form
    between = {".": "," if mark == "." else "."}.get(between, between)
    texts = [["µ A", "B"], [f"0{mark}125", "1"]]
    texts += [[_grouped(value, mark, between) for value in row] for row in rows]
    if separator == ",":
        texts = [[f'"{cell}"' for cell in row] for row in texts]
    body = "".join(separator.join(row) + "\n" for row in texts)
    (tmp_path / "a.csv").write_bytes(body.encode(encoding))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(table_file, "_CHUNK_ROWS", chunk)
        table = table_file.read_table_file(tmp_path / "a.csv")
    assert not table.notes
    for place, name in enumerate(("µ A", "B")):
        expected = [(0.125, 1.0)[place], *(round(row[place], 3) for row in rows)]
        assert table.columns[name].tolist() == expected


def _grouped(value: float, mark: str, between: str) -> str:
    """Return a number with three decimals and groups of three digits."""
    return f"{round(value, 3):,.3f}".replace(",", "\0").replace(".", mark).replace("\0", between)


@pytest.mark.parametrize("chunk", [1, 2, 50])
def test_a_decimal_comma_in_the_last_row_is_known_in_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(table_file, "_CHUNK_ROWS", chunk)
    (tmp_path / "a.csv").write_text("id;A\n1;1.234\n2;2.345\n3;3.456\n4;0,5\n")
    assert table_file.read_table(tmp_path / "a.csv")["A"].tolist() == [1234, 2345, 3456, 0.5]


def test_of_many_unusable_cells_the_number_and_the_first_are_reported(tmp_path: Path) -> None:
    body = "".join(f"{row},{'#REF!' if row % 3 == 0 else row / 2}\n" for row in range(1, 3001))
    (tmp_path / "a.csv").write_text(f"id,A\n{body}")
    cells = "“#REF!” in row 3, “#REF!” in row 6, “#REF!” in row 9"
    assert table_file.read_table_file(tmp_path / "a.csv").notes == (
        f"Column “A”: 1,000 cells not usable, taken as missing: {cells}.",
    )
