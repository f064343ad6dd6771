"""``nd-synapse verify``: checks a result folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nd_synapse import logs
from nd_synapse.cli.options import add_token, add_verbosity, level_of, search_working_folder
from nd_synapse.console import app
from nd_synapse.console.parser import Parser, add_number, add_value
from nd_synapse.credentials import find_token
from nd_synapse.errors import REMOTE, DataError, exit_codes
from nd_synapse.job.manifest import read_run_file
from nd_synapse.job.verify import SAMPLE, Request, verify
from nd_synapse.redaction import hide, redacted
from nd_synapse.text import one_line, shortened
from nd_synapse.values import parse_path

__all__ = ["main", "parser"]

_MOST = 2000
"""Characters of a check that are printed."""

_MOST_SAMPLES = 1_000_000


def main(argv: Sequence[str] | None = None, prog: str = "nd-synapse verify") -> int:
    """Run the command and return its exit code."""
    return app.run(lambda words, environ: _verify(words, environ, prog), argv)


def _verify(argv: Sequence[str], environ: Mapping[str, str], prog: str) -> int:
    """Check a folder; all checks are made and printed before the first failure is raised."""
    options = parser(prog).parse_args(argv)
    search_working_folder(options.pipeline)
    # a wrong folder is reported before a missing token
    in_boss = read_run_file(options.folder).source is None
    token = None if options.offline or not in_boss else find_token(options.token, options.token_file, environ, None)
    if token is not None:
        hide(token)
    logs.apply(logs.LogSettings(level_of(options)))
    request = Request(
        folder=options.folder,
        token=token,
        host=options.host,
        source=options.source,
        bucket=options.bucket or None,
        remote=not options.offline,
        pipeline=options.pipeline,
        sample=options.sample,
        seed=options.seed,
    )
    made = []
    for check in verify(request):
        # redacted before it is shortened: part of a token would not be recognized
        found = shortened(redacted(check.found), _MOST)
        app.write_stdout(one_line(f"{check.mark}  {check.name:<7} {found}") + "\n")
        made.append(check)
    bad = dict.fromkeys(check.name for check in made if check.good is False)
    if bad:
        found = f"not as they should be: {', '.join(bad)}"
        raise DataError(f"verifying {options.folder}", found, "See the lines above; run the job again")
    for error in (check.error for check in made if check.error is not None):
        raise error
    return 0


def parser(prog: str) -> Parser:
    """Return the parser."""
    p = Parser(
        prog=prog,
        description="Check a result folder against its run.json, BOSS and S3, and compute a sample of it again.",
        epilog=exit_codes(*REMOTE),
    )
    add_value(p, "folder", parse_path, "result folder of a run that ended")
    p.add_argument("--host", help="BOSS, if it has moved; default: that of the run")
    p.add_argument("--source", metavar="URI", help="the volume, if it has moved; default: that of the run")
    add_token(p)
    p.add_argument("--bucket", metavar="NAME", help="S3 bucket, if it is another one; default: that of the run")
    p.add_argument("--offline", action="store_true", help="check the folder only; needs no token")
    add_number(p, "--sample", 0, _MOST_SAMPLES, "parts to compute again; default: %(default)s", default=SAMPLE)
    add_number(p, "--seed", 0, 2**32 - 1, "of the choice of these parts; default: %(default)s", default=0)
    p.add_argument("--pipeline", metavar="NAME", help="package.module:function, if the run used one of your own")
    add_verbosity(p)
    return p
