"""Files that a user named: pipes and devices are refused, since reading one may never end."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

__all__ = ["refuse_special"]


def refuse_special(path: Path | str) -> None:
    """Refuse what exists and is neither a file nor a folder; links are followed."""
    mode = Path(path).stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "it is a pipe or a device, and no file", str(path))
