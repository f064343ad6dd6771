"""Tables as people have them: of other separators, decimal marks and encodings, and with cells that are no numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nd_synapse.errors import DataError
from nd_synapse.evaluate.truth import read_points
from nd_synapse.report.table import SynapseTable
from nd_synapse.report.table_file import read_table_file
from tests.cases import Case


def _error(error: DataError) -> str:
    return f"{error.exit_code}: {error.found}"


def _report(body: str | bytes) -> Callable[[Path], str]:
    """Return what reads a table for the report: each column with its values, how it was read, and the alerts."""

    def observe(folder: Path) -> str:
        file = folder / "table.csv"
        file.write_bytes(body if isinstance(body, bytes) else body.encode())
        try:
            table = read_table_file(file)
        except DataError as error:
            return _error(error)
        columns = [f"{name} {' '.join(map(str, values.tolist()))}" for name, values in table.columns.items()]
        return ". ".join(filter(None, ["; ".join(columns), table.how, *[note.rstrip(".") for note in table.notes]]))

    return observe


def _truth(body: str, name: str = "truth.csv") -> Callable[[Path], str]:
    """Return what reads a table of truth: the centres in micrometres."""

    def observe(folder: Path) -> str:
        (folder / name).write_bytes(body.encode())
        try:
            centres = read_points(folder / name, (1000.0, 1000.0, 1000.0)).centre_um
        except DataError as error:
            return _error(error)
        return "; ".join(" ".join(f"{value:g}" for value in centre) for centre in centres)

    return observe


def _masked(folder: Path) -> str:
    (folder / "synapses.csv").write_text("z_um,y_um,x_um,in_Gaba\n1,2,3,TRUE\n4,5,6,FALSE\n7,8,9,\n")
    centres = read_points(folder / "synapses.csv", None, mask="Gaba").centre_um
    return "; ".join(" ".join(f"{value:g}" for value in centre) for centre in centres) or "no point"


def _groups(folder: Path) -> str:
    (folder / "table.csv").write_text("id,A,in_Gaba,touches_border\n1,2.5,1,0\n2,3.5,,\n3,4.5,#N/A,?\n")
    table = SynapseTable.of(read_table_file(folder / "table.csv").columns)
    return f"{table.groups['Gaba'].sum()} in Gaba, {table.flags('touches_border').sum()} at the border"


CASES: tuple[Case, ...] = (
    Case(
        "semicolons",
        "semicolons between cells",
        "no column (0 objects)",
        "id 1 2; A 2.5 3.5. semicolons between cells",
        _report("id;A\n1;2.5\n2;3.5\n"),
    ),
    Case(
        "semicolons-decimal-comma",
        "semicolons between cells, decimal commas, 1.234,5",
        "65: line 2 has 3 cells, and the header has 1",
        "id 1 2; A 2.5 3.125; B 1234.5 4.0. semicolons between cells, decimal commas",
        _report("id;A;B\n1;2,5;1.234,5\n2;3,125;4\n"),
    ),
    Case(
        "tabs",
        "tabs between cells",
        "no column (0 objects)",
        "id 1 2; A 2.5 3.5. tabs between cells",
        _report("id\tA\n1\t2.5\n2\t3.5\n"),
    ),
    Case(
        "tabs-utf-16",
        "Excel's Unicode text: UTF-16, tabs, a decimal comma",
        "65: it is not comma-separated text in UTF-8",
        "id 1; mean_µ 2.5. tabs between cells, UTF-16, decimal commas",
        _report("id\tmean_µ\r\n1\t2,5\r\n".encode("utf-16")),
    ),
    Case(
        "declared-separator",
        "a first line sep=;",
        "65: line 3 has 2 cells, and the header has 1",
        "id 1; A 2.5. semicolons between cells, decimal commas",
        _report("sep=;\nid;A\n1;2,5\n"),
    ),
    Case(
        "two-separators",
        "a,b;c,d over 1,5;2,5",
        "a 1; d 5 (1 objects)",
        "65: its cells can be taken as separated by commas or by semicolons",
        _report("a,b;c,d\n1,5;2,5\n"),
    ),
    Case(
        "blanks",
        "blanks between cells: 1 100 is no 1100",
        "no column (0 objects)",
        "65: each of its lines is of 2 words, which blanks may separate, or which may be one cell",
        _report("id A\n1 100\n2 120\n"),
    ),
    Case(
        "quoted-decimal-comma",
        'commas between cells, "2,5"',
        "id 1 2 (2 objects)",
        "id 1 2; A 2.5 3.5. decimal commas",
        _report('id,A\n1,"2,5"\n2,"3,5"\n'),
    ),
    Case(
        "point-in-table-of-commas",
        "1.234 in a table with 0,5",
        "65: line 2 has 2 cells, and the header has 1",
        "id 1 2; A 1234 5678; B 0.5 1.25. semicolons between cells, decimal commas",
        _report("id;A;B\n1;1.234;0,5\n2;5.678;1,25\n"),
    ),
    Case(
        "comma-two-ways",
        "1,234 and 5,678, and nothing that shows what the comma is",
        "id 1 2 (2 objects)",
        (
            "id 1 2. Column “A”: 2 cells not usable, so it is left out: “1,234” (1.234 or 1234?) in row 1, "
            "“5,678” (5.678 or 5678?) in row 2"
        ),
        _report('id,A\n1,"1,234"\n2,"5,678"\n'),
    ),
    Case(
        "comma-two-ways-alone",
        "the same, and no other column of numbers",
        "no column (0 objects)",
        (
            "65: no column of it can be used as numbers. Column “A”: 2 cells not usable, so it is left out: "
            "“1,234” (1.234 or 1234?) in row 1, “5,678” (5.678 or 5678?) in row 2"
        ),
        _report('A\n"1,234"\n"5,678"\n'),
    ),
    Case(
        "both-decimal-marks",
        "0,5 in one column, 0.5 in another, 1,234 in a third",
        "65: line 2 has 3 cells, and the header has 1",
        (
            "B 0.5 1.25; C 0.5 2.5. semicolons between cells, decimal commas. Column “A”: 2 cells not "
            "usable, so it is left out: “1,234” (1.234 or 1234?) in row 1, “5,678” (5.678 or 5678?) in row 2"
        ),
        _report("A;B;C\n1,234;0,5;0.5\n5,678;1,25;2.5\n"),
    ),
    Case(
        "thousands",
        "1,234.50 and 1,234",
        "id 1 2 3 (3 objects)",
        "id 1 2 3; A 1234.5 1234.0 7.5",
        _report('id,A\n1,"1,234.50"\n2,"1,234"\n3,7.5\n'),
    ),
    Case(
        "thousands-blanks",
        "1 234,5 and 12 345,6 with a no-break space",
        "65: line 2 has 2 cells, and the header has 1",
        "id 1 2; A 1234.5 12345.6. semicolons between cells, decimal commas",
        _report("id;A\n1;1 234,5\n2;12\u00a0345,6\n"),
    ),
    Case(
        "error-cell",
        "one #DIV/0! among numbers",
        "id 1 2 3; B 7 8 9 (3 objects)",
        ("id 1 2 3; A 2.5 nan 3.5; B 7 8 9. Column “A”: 1 cell not usable, taken as missing: “#DIV/0!” in row 2"),
        _report("id,A,B\n1,2.5,7\n2,#DIV/0!,8\n3,3.5,9\n"),
    ),
    Case(
        "missing-and-infinite",
        "NaN, n/a, #N/A, an empty cell, inf",
        "id 1 2 3 4 5 6 (6 objects)",
        ("id 1 2 3 4 5 6; A nan nan nan nan nan 2.5. Column “A”: 1 cell not usable, taken as missing: “inf” in row 5"),
        _report("id,A\n1,NaN\n2,n/a\n3,#N/A\n4,\n5,inf\n6,2.5\n"),
    ),
    Case(
        "units-row",
        "a row of units below the header",
        "id nan 1.0 2.0 (3 objects)",
        "id 1 2; A 2.5 3.5; B 3 4. Row 1 left out, for it holds no number: “nm”, “a.u.”",
        _report("id,A,B\n,nm,a.u.\n1,2.5,3\n2,3.5,4\n"),
    ),
    Case(
        "totals-row",
        "a row of totals and one of means at the end",
        "A 2.5 3.5 6.0 3.0 (4 objects)",
        "id 1 2; A 2.5 3.5. 2 rows at the end left out, called “mean”, “total”",
        _report("id,A\n1,2.5\n2,3.5\nTotal,6\nMean:,3\n"),
    ),
    Case(
        "totals-row-unnamed",
        "a last row without id",
        "id 1.0 2.0 nan; A 2.5 3.5 6.0 (3 objects)",
        "id 1.0 2.0 nan; A 2.5 3.5 6.0. Row 3 alone has no “id”: remove it if it holds sums or means",
        _report("id,A\n1,2.5\n2,3.5\n,6\n"),
    ),
    Case(
        "header-again",
        "two tables in one file: the header comes again",
        "no column (0 objects)",
        "id 1 2; A 2.5 3.5. Row 2 left out, for it holds no number: “id”, “A”",
        _report("id,A\n1,2.5\nid,A\n2,3.5\n"),
    ),
    Case(
        "empty-rows",
        "rows of empty cells, as spreadsheets leave them",
        "id 1.0 nan 2.0 nan; A 2.5 nan 3.5 nan (4 objects)",
        "id 1 2; A 2.5 3.5",
        _report("id,A\n1,2.5\n,\n2,3.5\n,\n"),
    ),
    Case(
        "no-heading",
        "ImageJ's results: the row numbers have no heading",
        " 1 2; Area 2.5 3.5; Mean 30 40 (2 objects)",
        ("Area 2.5 3.5; Mean 30 40. Columns without numbers or heading left out: number 1, without a heading"),
        _report(" ,Area,Mean\n1,2.5,30\n2,3.5,40\n"),
    ),
    Case(
        "names-like-numbers",
        "names such as 1_5, which Python reads as 15",
        "id 1 2; cell 15 16; A 2.5 3.5 (2 objects)",
        "id 1 2; A 2.5 3.5. Columns without numbers or heading left out: “cell”",
        _report("id,cell,A\n1,1_5,2.5\n2,1_6,3.5\n"),
    ),
    Case(
        "numbers-in-text",
        "45% and 3 nm among numbers",
        "id 1 2 3 4 (4 objects)",
        (
            "id 1 2 3 4; A nan nan 7.0 8.0. Column “A”: 2 cells not usable, taken as missing: “45%” in row "
            "1, “3 nm” in row 2"
        ),
        _report("id,A\n1,45%\n2,3 nm\n3,7\n4,8\n"),
    ),
    Case(
        "no-header",
        "no header",
        "1 2; 2.5 3.5 (1 objects)",
        "65: its first line holds numbers alone",
        _report("1,2.5\n2,3.5\n"),
    ),
    Case(
        "no-numbers",
        "columns of text alone",
        "no column (0 objects)",
        ("65: no column of it can be used as numbers. Columns without numbers or heading left out: “a”, “b”"),
        _report("a,b\nx,y\n"),
    ),
    Case(
        "latin-1",
        "Latin-1",
        "65: it is not comma-separated text in UTF-8",
        "id 1; größe µm 2.5. Windows-1252, for it is not UTF-8",
        _report("id,größe µm\n1,2.5\n".encode("latin-1")),
    ),
    Case(
        "no-text",
        "an Excel workbook",
        "the first bytes as the name of a channel (0 objects)",
        "65: it is an Excel workbook, or another zip file",
        _report(b"PK\x03\x04\x14\x00\x06\x00"),
    ),
    Case(
        "truth-semicolons",
        "truth with semicolons and decimal commas",
        "65: line 2 has 3 cells, and the header has 1",
        "1.5 1234.5 3",
        _truth("z;y;x\n1,5;1.234,5;3\n"),
    ),
    Case("truth-tabs", "truth with tabs", "65: its columns are z\ty\tx", "1.5 2 3", _truth("z\ty\tx\n1.5\t2\t3\n")),
    Case(
        "truth-quoted-commas",
        'truth with commas, "1,5" and "1.234,5"',
        "65: row 1 has '1,5' in column 'z', which is no finite number",
        "1.5 1234.5 3",
        _truth('z,y,x\n"1,5","1.234,5",3\n'),
    ),
    Case(
        "truth-two-ways",
        "truth with 1,234 alone",
        "65: line 2 has 2 cells, and the header has 1",
        "65: row 1 has '1,234' in column 'z', which can be 1.234 or 1234",
        _truth("z;y;x\n1,234;2;3\n"),
    ),
    Case(
        "truth-point-in-table-of-commas",
        "truth with 1.234 beside 0,5",
        "65: line 2 has 2 cells, and the header has 1",
        "1234 0.5 3",
        _truth("z;y;x\n1.234;0,5;3\n"),
    ),
    Case(
        "truth-names-like-numbers",
        "truth with 1_5 as a place",
        "15 2 3",
        "65: row 1 has '1_5' in column 'z', which is no finite number",
        _truth("z,y,x\n1_5,2,3\n"),
    ),
    Case(
        "truth-error-cell",
        "truth with #DIV/0! as a place",
        "65: row 2 has '#DIV/0!' in column 'z', which is no finite number",
        "65: row 2 has '#DIV/0!' in column 'z', which is no finite number",
        _truth("z,y,x\n1.5,2,3\n#DIV/0!,2,3\n"),
    ),
    Case(
        "mask-of-a-spreadsheet",
        "--mask of a table whose True a spreadsheet made TRUE",
        "no point",
        "1 2 3",
        _masked,
    ),
    Case(
        "flags-without-a-value",
        "columns in_Gaba and touches_border with an empty cell, #N/A and ?",
        "in_Gaba left out without a word; an empty cell alone counted as in Gaba and as at the border",
        "1 in Gaba, 0 at the border",
        _groups,
    ),
)
