"""Make the report of a run again, from its output folder alone.

    python -m tvr.report FOLDER

It is FOLDER/report.html. Captions and videos are taken from where the run had them; videos that are
gone have no preview. Exit code: 0, or 2 for a folder that holds no run, or a damaged one.
"""

from __future__ import annotations

import argparse
import sys

from tvr.command_line import Parser
from tvr.report.page import write_page
from tvr.utils.arguments import path
from tvr.utils.errors import UserError
from tvr.utils.terminal import complain, printable, show_escapes


def main(argv: list[str] | None = None) -> int:
    """The exit code; a mistake of the user's is printed without a traceback."""
    show_escapes()
    parser = Parser(
        prog="python -m tvr.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=path, metavar="FOLDER", help="--output_dir of the run")
    try:
        print(printable(f"wrote {write_page(parser.parse_args(argv).folder)}"))
    except UserError as error:
        complain(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
