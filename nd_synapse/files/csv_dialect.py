"""How a table is written: its encoding, and what stands between its cells; not what the cells hold.

The separator is the one of which every line has as many as the header. `csv.Sniffer` and clevercsv find the same one,
and choose one where there are two; that is refused here.
"""

from __future__ import annotations

import codecs
import csv
import io
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from nd_synapse.errors import DataError

__all__ = ["Dialect", "recognise"]

log = logging.getLogger(__name__)

_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}
_SAMPLE = 2**16
"""Bytes from the beginning of a file that show its separator."""
_BLOCK = 2**20
_FOREIGN = {
    b"PK\x03\x04": "an Excel workbook, or another zip file",
    b"\xd0\xcf\x11\xe0": "an Excel workbook of the old form",
    b"\x1f\x8b": "packed with gzip",
    b"PAR1": "a Parquet file",
}
_DECLARED = re.compile(r'\s*"?sep=(.)"?[ \t]*(?:\r\n?|\n|\Z)', re.IGNORECASE)
"""The line that gives a spreadsheet the separator."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a table is written."""

    encoding: str = "utf-8-sig"
    separator: str = ","
    lines_before: int = 0
    """Lines above the header: one that declares the separator."""
    underscores: bool = True
    """Whether there is one below the first line: Python reads 1_5 as a number, and tables mean a name."""

    @property
    def words(self) -> str:
        """What differs from commas and UTF-8, in words; empty where nothing does."""
        between = "" if self.separator == "," else f"{_NAMES.get(self.separator, repr(self.separator))} between cells"
        encoding = {"utf-8-sig": "", "utf-16": "UTF-16", "cp1252": "Windows-1252, for it is not UTF-8"}[self.encoding]
        return ", ".join(filter(None, (between, encoding)))


def recognise(file: Path, requested: str) -> Dialect:
    """Return how a table is written; raise DataError for what is no text, or has two separators."""
    encoding, underscores = _encoding(file, requested)
    with file.open(encoding=encoding, errors="replace", newline="") as lines:
        text = lines.read(_SAMPLE)
    declared = _DECLARED.match(text)
    separator = declared[1] if declared else _separator(text, requested)
    dialect = Dialect(encoding, separator, int(bool(declared)), underscores)
    if dialect.words:
        log.info("%s is read with %s", requested, dialect.words)
    return dialect


def _encoding(file: Path, requested: str) -> tuple[str, bool]:
    """Return the encoding of a file, and whether an underscore is below its first line."""
    utf8, cp1252 = (codecs.getincrementaldecoder(name)() for name in ("utf-8", "cp1252"))
    possible, underscores, body = [utf8, cp1252], False, False
    with file.open("rb") as blocks:
        start = blocks.read(4)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16", True
        blocks.seek(0)
        what = next((name for magic, name in _FOREIGN.items() if start.startswith(magic)), "")
        while not what and (block := blocks.read(_BLOCK)):
            underscores |= b"_" in (block if body else block.partition(b"\n")[2])
            body |= b"\n" in block
            what = "not text: it has a NUL byte" if b"\0" in block else ""
            possible = [decoder for decoder in possible if _decodes(decoder, block)]
            if not possible:
                what = "text in neither UTF-8, UTF-16 nor Windows-1252"
        possible = [decoder for decoder in possible if _decodes(decoder, b"", final=True)]
    if what:
        raise DataError(requested, f"it is {what}", "Save it as CSV in UTF-8")
    return ("utf-8-sig" if possible[0] is utf8 else "cp1252"), underscores


def _decodes(decoder: codecs.IncrementalDecoder, block: bytes, *, final: bool = False) -> bool:
    """Return whether the next bytes are text in an encoding."""
    try:
        decoder.decode(block, final)
    except UnicodeDecodeError:
        return False
    return True


def _separator(text: str, requested: str) -> str:
    """Return what stands between the cells."""
    widths = {separator: _widths(text, separator) for separator in _NAMES}
    several = {separator: found for separator, found in widths.items() if found[:1] > [1]}
    even = [separator for separator, found in several.items() if len(set(found)) == 1]
    if len(even) > 1:
        found = f"its cells can be taken as separated by {' or by '.join(_NAMES[separator] for separator in even)}"
        raise DataError(requested, found, "Put a line above the header that says which, such as sep=;")
    if not several and (words := _words(text)):
        # read as one column, "1 100" would be the number 1100
        found = f"each of its lines is of {words} words, which blanks may separate, or which may be one cell"
        raise DataError(requested, found, "Put commas, semicolons or tabs between cells")
    # of lines that differ in length the reader will name the first
    return even[0] if even else max(several, key=lambda s: several[s].count(several[s][0]), default=",")


def _words(text: str) -> int:
    """Return how many words each line has, 0 where that differs or is one."""
    lines = text.splitlines()[: -1 if len(text) >= _SAMPLE else None]
    counts = {len(line.split()) for line in lines} - {0}
    return max(counts) if len(counts) == 1 and counts != {1} else 0


def _widths(text: str, separator: str) -> list[int]:
    """Return how many cells the lines of a sample have, without empty lines and without a last one that may be cut."""
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    if len(text) >= _SAMPLE and len(rows) > 1:
        del rows[-1]
    return [len(row) for row in rows if any(row)]
