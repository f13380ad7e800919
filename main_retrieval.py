"""Train or evaluate GARE from the command line; `--help` lists every flag."""

from __future__ import annotations

import os
import shlex
import sys
import time
from contextlib import ExitStack, suppress

from tvr.agreement import refuse_other_settings
from tvr.build import Run
from tvr.checks import check
from tvr.command_line import parse
from tvr.dataloaders.workers import deaths_reported
from tvr.evaluate import run_evaluation
from tvr.output_folder import held, make_output_dir
from tvr.train import run_training
from tvr.utils.distributed import (
    choose_device,
    launched_ranks,
    lost_another_process,
    process_group,
    speaks_for_machine,
)
from tvr.utils.errors import LocalError, UserError
from tvr.utils.interrupt import end_at_interrupt, end_with_launcher
from tvr.utils.logging import start_logging, tell
from tvr.utils.meeting import mistakes_told
from tvr.utils.stopping import Stopped


def main(argv: list[str] | None = None) -> int:
    """The exit code: 2 after a mistake of the user's, which is printed without a traceback.

    0 as well where a training was asked to stop and has saved its state, 130 if by Ctrl-C.
    """
    try:
        with deaths_reported():
            run_program(argv)
    except UserError as error:
        if speaks_for_machine() or isinstance(error, LocalError):
            tell(f"error: {error}")
        else:
            # The launcher stops all processes once one is gone: let the one that speaks be first
            time.sleep(30)
        return 2
    except Stopped as stop:
        if speaks_for_machine():
            tell(stop)
        return stop.code
    except RuntimeError as error:
        if not lost_another_process(error):
            raise
        tell("error: another process stopped; its own message says why")
        return 2
    return 0


def run_program(argv: list[str] | None) -> None:
    """Get ready, join the other processes, and train or evaluate."""
    arguments = sys.argv[1:] if argv is None else argv
    end_with_launcher()
    with ExitStack() as stack:
        with mistakes_told(launched_ranks()) as store:
            run = prepared(arguments)
            stack.enter_context(held(run))
        stack.enter_context(process_group(run.ranks, run.device, store))
        run.log.info(
            "%d process(es) on %s, precision %s",
            *(run.ranks.world_size, run.device.type, run.precision),
        )
        run.log.info("%s", run.command)
        refuse_other_settings(run.config)
        run_training(run) if run.config.do_train else run_evaluation(run)


def prepared(arguments: list[str]) -> Run:
    """Parse and check the command line, and find the device and the output folder.

    Raises:
        UserError: one message with all problems of the settings; or no device or folder to use.
    """
    config = parse(arguments)
    ranks = launched_ranks(config.local_rank)
    warnings = check(config, ranks)
    config.resolve()
    assert config.output_dir is not None  # `check` demands it
    device = choose_device(config.device, ranks)
    output_dir = make_output_dir(config.output_dir)
    command = shlex.join(["main_retrieval.py", *arguments])
    run = Run(config, ranks, device, start_logging(output_dir, ranks.is_main), command)
    for warning in warnings:
        run.log.warning("warning: %s", warning)
    return run


if __name__ == "__main__":
    end_at_interrupt()
    code = main()
    if code:
        # Without the clean-up that would wait for the other processes
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
