"""The way in, of ``edgeflow`` and ``python -m edgeflow``: no failure looks like a verdict.

Status 1 says that a clip is anomalous, and 1 is also what Python ends with when something cannot be
imported or nobody catches an error. So this module needs nothing but Python itself, and lets
nothing pass: a failure, however early, is one line and status 2, an interruption status 130.
"""

from __future__ import annotations

import os
import signal
import sys

EXIT_FAULT, EXIT_INTERRUPTED = 2, 130


def main() -> None:
    """Run the command line; exits with the command's status."""
    try:
        signal.signal(signal.SIGINT, _leave)
        from edgeflow.cli import main as open_front_door

        status = open_front_door()
    except BaseException as error:  # also SystemExit, and what compiled libraries throw
        _explain(error)
        status = EXIT_FAULT
    status = _flushed(status)
    if status == EXIT_INTERRUPTED:
        os._exit(status)  # Python may remember the interruption, and die of it once more
    sys.exit(status)


def _leave(*_: object) -> None:
    """Go at once: an interruption while modules load may be swallowed by C code, or end in 1."""
    _say("interrupted")
    os._exit(EXIT_INTERRUPTED)


def _explain(error: BaseException) -> None:
    if os.environ.get("EDGEFLOW_DEBUG"):
        import traceback

        traceback.print_exc()
    text = " ".join(f"{type(error).__name__}: {error}".split())
    mend = "install edgeflow again" if isinstance(error, ImportError) else "please report it"
    _say(f"Error: edgeflow could not go on: {text}; {mend}; EDGEFLOW_DEBUG=1 shows more")


def _flushed(status: int) -> int:
    """``status``, unless what was printed cannot be written: Python would end with 120 then."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        if status != EXIT_FAULT and not isinstance(error, BrokenPipeError):
            _say(f"Error: standard output: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left goes there
        return EXIT_FAULT
    return status


def _say(line: str) -> None:
    """Print a line, even amid another; nothing if standard error was closed."""
    if sys.stderr is not None:
        os.write(2, f"{line}\n".encode(errors="replace"))


if __name__ == "__main__":
    main()
