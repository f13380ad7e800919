"""Find videos by what they show: GARE's text-to-video search over a folder of videos.

    python -m tvr.search index --videos FOLDER --model CHECKPOINT --index INDEX
    python -m tvr.search query --index INDEX "a red circle moves left"
    python -m tvr.search serve --index INDEX

Exit code: 0, or 2 for a command that cannot be carried out.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from dataclasses import MISSING, fields

from tvr.build import FROM_CHECKPOINT
from tvr.command_line import Parser, add_flag
from tvr.config import Config
from tvr.dataloaders.reading import DECODERS
from tvr.search.answers import as_json, as_table, read_queries
from tvr.search.engine import Engine, check
from tvr.search.indexing import UNREADABLE, Indexer
from tvr.search.model import open_model
from tvr.utils.arguments import count, path, port, seconds
from tvr.utils.errors import UserError
from tvr.utils.files import replacing
from tvr.utils.terminal import complain, printable, show_escapes

NAMED_FILES = 10
SETTINGS = [f for f in fields(Config) if f.name in FROM_CHECKPOINT]
DEVICES = ("auto", "cpu", "cuda")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the three commands."""
    parser = Parser(
        prog="python -m tvr.search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    index = commands.add_parser("index", help="make an index, or bring it up to date")
    query = commands.add_parser("query", help="search, on the command line")
    serve = commands.add_parser("serve", help="search, in a browser")
    add_index_flags(index)
    for command in (query, serve):
        add = command.add_argument
        add("--index", type=path, required=True, help="folder of the index")
        add("--model", help="the index's model, where it is no longer where it was")
        add("--device", choices=DEVICES, default="auto", help="where to compute [auto]")
    add_query_flags(query)
    serve.add_argument(
        "--port", type=port, default=8000, help="port to listen on, 0 for any [8000]"
    )
    return parser


def add_index_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--videos", type=path, required=True, help="folder of videos, searched at any depth")
    add(
        "--model",
        required=True,
        help="checkpoint, ours or the authors'; or the name of a --base_encoder: CLIP alone",
    )
    add("--index", type=path, required=True, help="folder for the index")
    cores = os.cpu_count() or 1
    add("--workers", type=int, default=cores, help="processes that decode (0: none) [cores]")
    add("--batch_size", type=count, default=32, help="videos encoded at a time [32]")
    add("--device", choices=DEVICES, default="auto", help="where to compute [auto]")
    add("--video_decoder", choices=DECODERS, default=DECODERS[0], help="library that decodes")
    add("--decode_timeout", type=seconds, default=60.0, help="most for a video (0: none) [60]")
    group = parser.add_argument_group(
        "settings, where a checkpoint carries none or others are wanted"
    )
    for f in SETTINGS:
        add_flag(group, f)


def add_query_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("queries", nargs="*", metavar="QUERY", help="what the videos show")
    add("--file", type=path, help="UTF-8 file with one query a line")
    add("--topk", type=count, default=10, help="videos to show [10]")
    add("--candidates", type=count, default=256, help="videos that stage two scores [256]")
    add("--exact", action="store_true", help="score every video; slow")
    add("--json", action="store_true", help="print JSON")
    add("--html", type=path, help="also write a page of the results")


def main(argv: list[str] | None = None) -> int:
    """The exit code; a mistake of the user's is printed without a traceback."""
    show_escapes()
    try:
        args = build_parser().parse_args(argv)
        {"index": run_index, "query": run_query, "serve": run_serve}[args.command](args)
    except UserError as error:
        complain(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def run_index(args: argparse.Namespace) -> None:
    """Make or update an index, and say what was done."""
    # whoever ends it keeps what is encoded, as with Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = {f.name: getattr(args, f.name) for f in SETTINGS}
    log = logging.getLogger("tvr.search")
    model = open_model(
        args.model,
        {name: value for name, value in settings.items() if value is not MISSING},
        args.device,
        log,
        workers=args.workers,
        batch_size_val=args.batch_size,
        video_decoder=args.video_decoder,
        decode_timeout=args.decode_timeout,
    )
    report = Indexer(args.videos, args.index, model).run(log)
    listed = f", listed in {args.index / UNREADABLE}" if report.unreadable else ""
    for record in report.unreadable[:NAMED_FILES]:
        print(printable(f"unreadable: {record.file.path}: {record.problem}"), file=sys.stderr)
    print(
        printable(
            f"{args.index}: {report.gallery:,} videos, {report.encoded:,} of them encoded now; "
            f"{len(report.unreadable):,} unreadable{listed}"
        )
    )


def run_query(args: argparse.Namespace) -> None:
    """Answer the queries in the form that was asked for."""
    queries = args.queries + (read_queries(args.file) if args.file else [])
    check(queries, args.topk, args.candidates)
    engine = Engine.open(args.index, args.model, args.device)
    answers = engine.search(queries, args.topk, args.candidates, args.exact)
    if args.html:
        # only this needs a template engine
        from tvr.search.page import results_page

        page = results_page(answers, engine.preview, engine.describe())
        with replacing(args.html) as file:
            file.write(page.encode(errors="backslashreplace"))
    print(as_json(answers, engine.folder) if args.json else as_table(answers, engine.folder))


def run_serve(args: argparse.Namespace) -> None:
    """Answer in a browser until stopped."""
    from tvr.search.serve import serve

    serve(Engine.open(args.index, args.model, args.device), args.port)


if __name__ == "__main__":
    sys.exit(main())
