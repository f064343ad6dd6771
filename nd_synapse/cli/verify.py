"""``nd-synapse verify``: checks a result folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nd_synapse import logs
from nd_synapse.console import app
from nd_synapse.console.parser import Parser, PathOption, add_verbosity, level_of
from nd_synapse.credentials import find_token
from nd_synapse.errors import (
    DataError,
    PermissionDeniedError,
    StorageError,
    UnavailableError,
    UsageError,
    exit_codes,
)
from nd_synapse.job.verify import SAMPLE, Request, verify
from nd_synapse.text import one_line, shortened

__all__ = ["main"]

_MOST = 2000


def main(argv: Sequence[str] | None = None, prog: str = "nd-synapse verify") -> int:
    """Run the command and return its exit code."""
    return app.run(lambda words, environ: _verify(words, environ, prog), argv)


def _verify(argv: Sequence[str], environ: Mapping[str, str], prog: str) -> int:
    """Check a folder; every check is made and printed before the first that failed is raised."""
    p = _parser(prog)
    p.epilog = exit_codes(UsageError, DataError, UnavailableError, StorageError, PermissionDeniedError)
    options = p.parse_args(argv)
    level = level_of(options)
    if ":" in (options.pipeline or ""):
        # a function of the user's own is looked for where the user is, as by driver.py itself
        sys.path.append(str(Path.cwd()))
    if options.sample < 0:
        raise UsageError(f"--sample {options.sample}", "it is less than none", "Give a number from 0 upwards")
    token = None if options.offline else find_token(options.token, options.token_file, environ, None)
    if token is not None:
        logs.hide(token)
    logs.apply(logs.LogSettings(level))
    request = Request(
        folder=options.folder,
        token=token,
        host=options.host,
        bucket=options.bucket or None,
        remote=not options.offline,
        pipeline=options.pipeline,
        sample=options.sample,
        seed=options.seed,
    )
    made = []
    for check in verify(request):
        # tokens go first: a part of one, left by a cut, nobody would know
        found = shortened(logs.told(check.found), _MOST)
        app.write_stdout(one_line(f"{check.mark}  {check.name:<7} {found}") + "\n")
        made.append(check)
    bad = dict.fromkeys(check.name for check in made if check.good is False)
    if bad:
        found = f"not as they should be: {', '.join(bad)}"
        raise DataError(f"verifying {options.folder}", found, "The lines above tell where; run the job again")
    for error in (check.error for check in made if check.error is not None):
        raise error
    return 0


def _parser(prog: str) -> Parser:
    """Return the parser."""
    p = Parser(
        prog=prog,
        description="Check a result folder: files against run.json, masks against each other, the table, BOSS and S3; "
        "compute a sample of masks and rows again.",
        allow_abbrev=False,
    )
    p.add_argument("folder", action=PathOption, help="the result folder of a run that ended")
    p.add_argument("--host", help="BOSS, where it has moved; default: that of the run")
    p.add_argument("--token", help="BOSS token; other users of the machine can see it in the process list")
    p.add_argument("--token-file", metavar="FILE", help="file that holds the token; or BOSS_TOKEN in the environment")
    p.add_argument("--bucket", metavar="NAME", help="S3 bucket, where it is another one; default: that of the run")
    p.add_argument("--offline", action="store_true", help="look at the folder alone; takes no token")
    p.add_argument(
        "--sample", type=int, default=SAMPLE, metavar="N", help="parts to compute again; default: %(default)s"
    )
    p.add_argument("--seed", type=int, default=0, metavar="N", help="chooses them; default: %(default)s")
    p.add_argument("--pipeline", metavar="NAME", help="package.module:function, where the run used one of your own")
    add_verbosity(p)
    return p
