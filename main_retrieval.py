"""Train or evaluate GARE from the command line; `--help` lists every flag."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tvr.build import Run
from tvr.checks import check
from tvr.config import parse
from tvr.evaluate import run_evaluation
from tvr.train import run_training
from tvr.utils.distributed import choose_device, launched_ranks, process_group
from tvr.utils.errors import LocalError, UserError
from tvr.utils.logging import start_logging


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 after a mistake of the user's, which is printed without a traceback."""
    ranks = launched_ranks()
    try:
        config = parse(argv)
        ranks = launched_ranks(config.local_rank)
        warnings = check(config, ranks)
        config.resolve()
        device = choose_device(config.device, ranks)
        output_dir = make_output_dir(config.output_dir)
        run = Run(config, ranks, device, start_logging(output_dir, ranks.is_main))
        for warning in warnings:
            run.log.warning("warning: %s", warning)
        with process_group(ranks, device):
            run.log.info(
                "%d process(es) on %s, precision %s", ranks.world_size, device.type, run.precision
            )
            run_training(run) if config.do_train else run_evaluation(run)
    except UserError as error:
        if ranks.local_rank == 0 or isinstance(error, LocalError):
            print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def make_output_dir(name: str) -> Path:
    """The output folder, created where it is missing.

    Raises:
        UserError: the name is a file, or the folder cannot be made or written.
    """
    path = Path(name)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output_dir {path}: cannot be created ({error.strerror}).") from error
    if not os.access(path, os.W_OK):
        raise UserError(f"--output_dir {path}: you may not write there.")
    return path


if __name__ == "__main__":
    sys.exit(main())
