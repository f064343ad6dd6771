"""The one reader of tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from nd_synapse.errors import DataError
from nd_synapse.files.csv_tables import read_rows


def test_rows_follow_the_header_and_empty_lines_are_left_out(tmp_path: Path) -> None:
    """As spreadsheets save: a byte order mark, carriage returns, quotes where a cell has a comma or a line end."""
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbf a ,b\r\n"1,5",x\r\n\r\n"two\nlines",\r\n')
    assert list(read_rows(tmp_path / "a.csv")) == [["a", "b"], ["1,5", "x"], ["two\nlines", ""]]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no header"),
        (b",,\n1,2,3\n", "heads two columns"),
        (b"a,b,a\n", "'a' heads two columns"),
        (b"a,b\n1,2\n3\n", "line 3 has 1 cells, and the header has 2"),
        (b"a,b\n\xff,2\n", "UTF-8"),
        (b'a,b\n"1"2,3\n', "after line 2"),
        (b"a,b\n" + b"x" * 200_000, "field larger than field limit"),
    ],
    ids=["empty", "blank", "a name twice", "a short row", "no text", "a stray quote", "no line ends"],
)
def test_what_is_no_table_is_refused(tmp_path: Path, body: bytes, words: str) -> None:
    (tmp_path / "a.csv").write_bytes(body)
    with pytest.raises(DataError, match=words) as caught:
        list(read_rows(tmp_path / "a.csv"))
    assert str(tmp_path / "a.csv") in str(caught.value)
