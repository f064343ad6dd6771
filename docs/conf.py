"""The site: Sphinx reads these pages, README and its neighbours, and the docstrings of what users import."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nd_synapse import __version__

project = "nd-synapse"
author = "the nd-synapse maintainers"
release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc"]
html_theme = "furo"
html_title = f"nd-synapse {release}"
html_copy_source = False
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


def setup(app: Any) -> None:
    """Mend the links of pages, and of the pages of the root that some include."""

    def source_read(_app: Any, page: str, text: list[str]) -> None:
        if not page.startswith("notebooks/"):
            text[0] = mended(text[0], (_ROOT / "docs" / page).parent, page)

    def include_read(_app: Any, _path: Path, page: str, text: list[str]) -> None:
        text[0] = mended(text[0], _ROOT, page)

    app.connect("source-read", source_read)
    app.connect("include-read", include_read)
