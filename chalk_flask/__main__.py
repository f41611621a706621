"""Entry point of the command `chalk-flask`, and of `python -m chalk_flask`."""

from __future__ import annotations

import os
import signal
from types import FrameType

__all__ = ["run_command"]


def run_command(program: str | None = None) -> None:
    """Run the command line, and exit with its code. Messages call it `program`, by default as it was started."""
    _accept_sigterm()
    from chalk_flask.cli import main  # takes most of the time of a start, in which the container may be stopped

    main(prog_name=program)


def _accept_sigterm() -> None:
    """Make SIGTERM end the first process of a container, as it ends others.

    Linux drops signals without a handler for that process. `serve` replaces the handler as soon as requests can be in
    progress.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _exit_at_once)


def _exit_at_once(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    run_command("chalk-flask")
