"""Files that somebody named, refused where they are none: a pipe would be waited for, a device may have no end.

It opens none.
"""

from __future__ import annotations

import errno
import stat
from pathlib import Path

__all__ = ["refuse_special"]


def refuse_special(path: Path | str) -> None:
    """Refuse what is there and is neither a file nor a folder; a link is what it leads to."""
    mode = Path(path).stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "it is a pipe or a device, and no file", str(path))
