"""The site: Sphinx reads these pages, README and its neighbours, and the docstrings of what users import."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nd_synapse import __version__

project = "nd-synapse"
author = "the nd-synapse maintainers"
project_copyright = f"2026, {author}. Apache License 2.0"
release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc"]
html_theme = "furo"
html_title = f"nd-synapse {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
highlight_language = "none"
smartquotes = False  # it would make one dash of the two before an option
html_extra_path = ["../site/extra"]
myst_enable_extensions = ["attrs_inline"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_cache_path = str(Path(__file__).parents[1] / "site" / "executed")
nb_execution_raise_on_error = True
nb_execution_timeout = 120
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc has them in words
numpydoc_show_class_members = False

_ROOT = Path(__file__).parents[1]
_OF_THE_ROOT = {
    "README.md": "index.md",
    **{f"{name.upper()}.md": f"{name}.md" for name in ("architecture", "changelog", "contributing")},
}
_GROUPS = ("batch", "boss")
_LONG = {("run",), ("evaluate",)}
_LINK = re.compile(r"\[([^\[\]]+)\]\(([^)#\s]+)(#[^)]*)?\)")


def mended(text: str, folder: Path, page: str) -> str:
    """Let the links of a text of a folder name what is on the site, as seen from a page; other files get no link."""

    def one(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target:
            return match[0]
        path = (folder / target).resolve().relative_to(_ROOT).as_posix()
        place = _OF_THE_ROOT.get(path, path.removeprefix("docs/"))
        if place == path and not (path.startswith("docs/")):
            return words
        return f"[{words}]({'../' * page.count('/')}{place}{anchor})"

    return _LINK.sub(one, text)


def _help(*words: str) -> str:
    """Return the help of a command, all of it."""
    line = [sys.executable, "-m", "nd_synapse", *words, "--help-all" if words in _LONG else "--help"]
    plain = {**os.environ, "COLUMNS": "92", "NO_COLOR": "1", "PYTHON_COLORS": "0", "RESULTS_BUCKET": ""}
    return subprocess.run(line, env=plain, capture_output=True, text=True, check=True).stdout


def helps() -> str:
    """Return the help of every command that does something by itself."""
    names: list[tuple[str, ...]] = []
    for name in re.findall(r"^  (\w+)  ", _help(), re.MULTILINE):
        below = re.findall(r"^    (\w+)  ", _help(name), re.MULTILINE) if name in _GROUPS else ()
        names += [(name, one) for one in below] or [(name,)]
    return "".join(f"\n## nd-synapse {' '.join(name)}\n\n```\n{_help(*name)}```\n" for name in names)


def _kind(schema: dict[str, Any]) -> str:
    """Return in words what a schema allows."""
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{one}`" for one in schema["enum"])
    if "anyOf" in schema and "type" not in schema:
        return " or ".join(dict.fromkeys(map(_kind, schema["anyOf"])))
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name})"
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    inner = schema.get("items") or schema.get("additionalProperties")
    if not isinstance(inner, dict):
        return " or ".join(kinds)
    return " or ".join(f"{kind} of {_kind(inner)}" if kind in ("array", "object") else kind for kind in kinds)


def _parts(name: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give every object below a schema that has keys of its own, under the path to it."""
    if "properties" in schema:
        yield name, schema
        for key, one in schema["properties"].items():
            yield from _parts(f"{name}.{key}" if name else key, one)
    if choices := [one for one in schema.get("anyOf", ()) if "properties" in one]:
        yield from _parts(
            name, {"properties": {key: value for one in choices for key, value in one["properties"].items()}}
        )
    for key, mark in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(schema.get(key), dict):
            yield from _parts(name + mark, schema[key])


def keys_of_run_json() -> str:
    """Return tables of all keys of run.json, from its schema."""
    schema = json.loads((_ROOT / "docs" / "run.schema.json").read_text(encoding="utf-8"))
    text = ""
    for name, part in [*_parts("", schema), *((n, p) for d, one in schema["$defs"].items() for n, p in _parts(d, one))]:
        text += f"\n## {name}\n" if name else ""
        text += f"\n{part['description']}.\n" if name and "description" in part else ""
        text += "\n| key | holds |\n|---|---|\n"
        for key, one in part["properties"].items():
            text += f"| `{key}` | {one['description']} *({_kind(one)})* |\n"
    for name, one in schema["$defs"].items():
        if "properties" not in one:
            text += f"\n## {name}\n\n{_kind(one)}: {one['description']}.\n"
    return text


def setup(app: Any) -> None:
    """Mend the links of pages, and of the pages of the root that some include; add to two what is made."""

    def source_read(_app: Any, page: str, text: list[str]) -> None:
        if page == "run-json":
            text[0] += keys_of_run_json()
        if page == "command-line":
            text[0] += helps()
        if not page.startswith("notebooks/"):
            text[0] = mended(text[0], (_ROOT / "docs" / page).parent, page)

    def include_read(_app: Any, _path: Path, page: str, text: list[str]) -> None:
        text[0] = mended(text[0], _ROOT, page)

    app.connect("source-read", source_read)
    app.connect("include-read", include_read)
