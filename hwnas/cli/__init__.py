"""The command line: the only place that prints or exits."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the `hwnas` command; a user's mistake ends with one message and its exit code."""
    from hwnas.cli.app import app
    from hwnas.errors import HwnasError

    try:
        app()
    except HwnasError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe (`hwnas devices list | head`) left; nothing is wrong.
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
