"""The command ``nd-synapse``, also as ``python -m nd_synapse``."""

from __future__ import annotations

from nd_synapse.console import startup

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process, and end it."""
    startup.begin()
    from nd_synapse.console import app, commands

    app.end(commands.run())


if __name__ == "__main__":
    main()
