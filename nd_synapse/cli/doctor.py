"""``nd-synapse doctor``: what this machine has, on one screen, for the report of a problem."""

from __future__ import annotations

import logging
import platform
import resource
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence

from nd_synapse import logs
from nd_synapse.cli.options import add_token
from nd_synapse.console import app
from nd_synapse.console.parser import Parser
from nd_synapse.credentials import TOKEN_VARIABLE, Token, find_token
from nd_synapse.errors import REMOTE, NDSynapseError, exit_codes
from nd_synapse.job.job import BUCKET_VARIABLE
from nd_synapse.job.manifest import versions
from nd_synapse.machine import available_bytes, available_cores, in_gib
from nd_synapse.pipeline import registry
from nd_synapse.redaction import hide

__all__ = ["main"]

_NAMED = (
    *(TOKEN_VARIABLE, BUCKET_VARIABLE, "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "TMPDIR", "OMP_NUM_THREADS"),
)
"""Variables of which is said whether they are set; never what they hold."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return app.run(_doctor, argv)


def _doctor(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print what is there; what does not work is printed in its place, and ends the command at last."""
    p = Parser(
        prog="nd-synapse doctor",
        description="Say what this machine has, and whether BOSS and a bucket can be reached. Paste it into the report "
        "of a problem: it has no secrets.",
        epilog=exit_codes(*REMOTE),
    )
    p.add_argument("--host", help="BOSS to ask")
    p.add_argument("--bucket", metavar="NAME", help="S3 bucket to ask")
    add_token(p)
    options = p.parse_args(argv)
    logs.apply(logs.LogSettings(logging.ERROR))
    looks: dict[str, Callable[[], str]] = {
        "versions": lambda: ", ".join(f"{name} {version}" for name, version in versions().items()),
        "system": platform.platform,
        "pipelines": lambda: ", ".join(registry.names()),
        "machine": _machine,
        "disk": lambda: ", ".join(f"{_free(place)} GiB free in {place}" for place in (".", tempfile.gettempdir())),
        "set": lambda: ", ".join(name for name in _NAMED if environ.get(name)) or "no variable that matters",
    }
    if options.host:
        token = Token(Token.PUBLIC)
        if options.token or options.token_file or environ.get(TOKEN_VARIABLE):
            token = find_token(options.token, options.token_file, environ, None)
            hide(token)
        looks["BOSS"] = lambda: _boss(options.host, token)
    if options.bucket:
        looks["bucket"] = lambda: _bucket(options.bucket)
    failures = []
    for name, look in looks.items():
        try:
            found = look()
        except NDSynapseError as error:
            failures.append(error)
            found = f"NOT WELL: {error}"
        app.write_stdout(f"{name:<10} {found}\n")
    return failures[0].exit_code if failures else 0


def _machine() -> str:
    """Return cores, memory and open files that this process may use."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"{available_cores()} cores, {in_gib(available_bytes())} GiB of memory, {files} open files"


def _free(place: str) -> str:
    """Return the free space of the disk that has a folder."""
    return in_gib(shutil.disk_usage(place).free)


def _boss(host: str, token: Token) -> str:
    """Ask BOSS for the collections that a token may see."""
    # intern is imported only where BOSS is asked
    from nd_synapse.boss.connection import call, connect, url_for
    from nd_synapse.boss.transport import Patience

    # a doctor must not take minutes
    remote = connect(host, token, patience=Patience(connect_s=5.0, read_s=20.0, attempts=2))
    names = call(remote, f"the list of collections of {host}", remote.list_collections)
    whose = "the token" if token.is_secret else "the token 'public'"
    return f"{url_for(remote)} answers; {whose} sees {len(names)} collections"


def _bucket(name: str) -> str:
    """List a bucket."""
    from nd_synapse.aws.bucket import Bucket  # nor is boto3

    any_key = next(Bucket(name, "Check --bucket and the credentials").keys(""), None)
    return f"{name} can be listed; it is {'empty' if any_key is None else 'not empty'}"
