"""The command `earmark`, and `python -m earmark`."""

import sys

from earmark.extras import MissingExtra, needs


def main() -> None:
    """Runs the command line, or says in one line what has to be installed for it."""
    try:
        with needs("server"):
            from earmark.cli import main as run_command  # noqa: PLC0415 - fails where the extra is missing
    except MissingExtra as error:
        sys.exit(f"earmark: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    run_command()


if __name__ == "__main__":
    main()
