"""The program: ``aliciacfg``, and ``python -m aliciacfg``."""

import sys


def main() -> None:
    """Run the command line; does not return."""
    try:
        from aliciacfg.cli import main as command_line  # noqa: PLC0415
    except KeyboardInterrupt:
        # Importing takes a tenth of a second.
        print("error: interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    command_line()


if __name__ == "__main__":
    main()
