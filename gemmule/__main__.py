"""`python -m gemmule` is the command `gemmule`."""

import sys


def main() -> None:
    """The command; Ctrl-C while its modules are read is no traceback."""
    try:
        from gemmule import cli
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
