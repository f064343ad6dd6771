"""``nd-synapse view``: shows a run beside its images, in neuroglancer."""

from __future__ import annotations

import logging
import os
import threading
import webbrowser
from collections.abc import Mapping, Sequence

from nd_synapse import logs
from nd_synapse.cli.options import add_token, add_verbosity, level_of
from nd_synapse.console import app
from nd_synapse.console.parser import Parser, add_number, add_value
from nd_synapse.credentials import find_token
from nd_synapse.errors import REMOTE, exit_codes
from nd_synapse.job.manifest import read_run_file
from nd_synapse.job.verify import Request
from nd_synapse.redaction import hide
from nd_synapse.values import parse_path

__all__ = ["main", "parser"]

log = logging.getLogger(__name__)

_MOST_IDS = 2**32 - 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return app.run(_view, argv, remedy=app.STARTS_OVER)


def _view(argv: list[str], environ: Mapping[str, str]) -> int:
    """Serve a run until it is interrupted, or print its link."""
    options = parser().parse_args(argv)
    # a wrong folder is reported before a missing token
    in_boss = read_run_file(options.folder).source is None
    token = find_token(options.token, options.token_file, environ, None) if in_boss else None
    if token is not None:
        hide(token)
    logs.apply(logs.LogSettings(level_of(options)))
    # a help appears sooner without a web framework
    from nd_synapse.view.run import open_run
    from nd_synapse.view.shared import shared_link

    opened = open_run(Request(folder=options.folder, token=token, host=options.host, source=options.source))
    if options.at is not None:
        opened.scene.places.row_of(options.at)
    if options.print:
        return app.write_stdout(f"{shared_link(opened, options.at)}\n")
    from nd_synapse.view.server import bound, serve

    with bound(options.port or 0) as listener:
        if not options.no_open and (environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")):
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        serve(opened, listener, options.at)
    return os.EX_OK


def parser() -> Parser:
    """Return the parser."""
    p = Parser(
        prog="nd-synapse view",
        description="Show the synapses of a run on its images, in neuroglancer in a browser, until Ctrl-C.",
        epilog=exit_codes(*REMOTE),
    )
    add_value(p, "folder", parse_path, "result folder of a run that ended")
    add_number(p, "--at", 1, _MOST_IDS, "synapse to open, by its id in the table", metavar="ID")
    add_number(p, "--port", 0, 2**16 - 1, "port on this machine; default: any free one")
    p.add_argument("--no-open", action="store_true", help="print the address, and open no browser")
    p.add_argument(
        "--print",
        action="store_true",
        help="print a link that opens in any neuroglancer, where the images are public, and end",
    )
    p.add_argument("--host", help="BOSS, if it has moved; default: that of the run")
    p.add_argument("--source", metavar="URI", help="the volume, if it has moved; default: that of the run")
    add_token(p)
    add_verbosity(p)
    return p
