"""What a training needs to go on from where it was: written now and then, found, checked and read.

`state_STEP.pt` in the output folder holds the model, the optimiser's moments, the results so far
and what the run was asked for. No generator of random numbers is in it: every draw follows from
the seed and the step or epoch alone (dropout, order of captions, augmentation), so that a training
that goes on draws what one without interruption would have drawn.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from tvr.build import STATES, Run
from tvr.checkpoint import load_model, read_state, save_checkpoint, trained_settings
from tvr.step import Learner
from tvr.utils.distributed import broadcast_object, broadcast_tensors
from tvr.utils.errors import UserError
from tvr.utils.metrics import table

NAME = re.compile(r"state_(\d{8,})\.pt")
# May be another where a training goes on: they do not change what is computed, up to rounding.
# --on_bad_video: `error` ends a training where `skip` would begin to be another
FREE = (
    *("resume", "save_every", "keep_last", "overwrite", "workers", "n_display", "local_rank"),
    *("anno_path", "video_path", "output_dir", "frame_cache", "video_decoder", "init_model"),
    *("device", "precision", "compile", "chunk_size", "grad_checkpointing", "scoring"),
    *("batch_size_val", "world_size", "contact_sheet", "export_features", "interaction"),
    *("dual_softmax", "sinkhorn", "qb_norm", "qb_bank", "center", "distributed"),
    *("allow_partial_gallery", "allow_partial_training", "do_eval", "on_nonfinite"),
    *("on_bad_video", "decode_timeout", "preset", "log_increment", "wandb"),
)


MOST_VALUES = 10_000  # that two results have, with a large margin


@dataclass
class Position:
    """How far a training has come.

    `step` updates are done, the last evaluation was after `evaluated` of them, `results` were found
    so far, and `skipped` updates were left out because they were not finite.
    """

    step: int = 0
    evaluated: int = 0
    skipped: int = 0
    results: dict[str, dict[str, Any]] = field(default_factory=dict)


def states(folder: Path) -> list[Path]:
    """The saved states in a folder, the latest first."""
    step_of = {path: NAME.fullmatch(path.name) for path in folder.glob(STATES)}
    found = {path: int(match[1]) for path, match in step_of.items() if match is not None}
    return sorted(found, key=found.__getitem__, reverse=True)


def save_state(learner: Learner, position: Position, data: str) -> None:
    """Write the state of this moment, and delete all but the last `--keep_last`.

    Raises:
        LocalError: it cannot be written; those of before are then as they were.
    """
    run = learner.run
    learner.watch.flush()
    position.skipped = learner.watch.skipped
    if not run.ranks.is_main:
        return
    facts = {
        "config": run.config.public(),
        "processes": run.ranks.world_size,
        "data": data,
        "moments": moments(learner),
        "position": vars(position),
    }
    save_checkpoint(run.output_dir / f"state_{position.step:08}.pt", learner.model, **facts)
    keep(run, run.config.keep_last)


def keep(run: Run, count: int) -> None:
    """Delete all but the last `count` states in the output folder."""
    for old in states(run.output_dir)[count:]:
        old.unlink()


def moments(learner: Learner) -> list[dict[str, Tensor]]:
    """The optimiser's state of every parameter, in the order of its groups."""
    optimizer = learner.optimizer
    return [optimizer.state[p] for group in optimizer.param_groups for p in group["params"]]


def restore(learner: Learner, data: str) -> Position:
    """Put the state that `--resume` asks for into the learner, on every process.

    Only the main process reads it. For `auto` where there is none the learner stays as it is.
    Without `--resume` it does so too, and states of an earlier training are deleted.

    Raises:
        UserError: the state is not there, damaged, or of another training.
    """
    run = learner.run
    content = None
    if run.ranks.is_main and run.config.resume:
        content = find(run)
    elif run.ranks.is_main:
        keep(run, 0)
    if run.ranks.is_main:
        # of a process that was killed while it wrote
        for part in run.output_dir.glob(".*.part"):
            part.unlink()
    if content is not None:
        refuse_another_training(run, content, data)
    position = broadcast_object(None if content is None else position_of(run, content))
    if position is None:
        return Position()
    own = moments(learner)
    if content is not None:
        load_model(learner.model, content, Path(run.config.resume))
        load_moments(f"--resume {run.config.resume}", own, content["moments"])
        announce(run, content, position)
    broadcast_tensors(learner.model.state_dict().values())
    broadcast_tensors(tensor for state in own for tensor in state.values())
    learner.watch.go_on_after(position.skipped)
    return position


def find(run: Run) -> dict[str, Any] | None:
    """The latest state that can be read; None for `auto` where no state was ever written."""
    wanted = run.config.resume
    path = run.output_dir if wanted == "auto" else Path(wanted)
    if path.is_file():
        return read_state(path)
    found = states(path)
    for state in found:
        try:
            return read_state(state)
        except UserError as error:
            run.log.warning("warning: %s Trying the one before.", error)
    if wanted == "auto" and not found:
        return None
    problem = "holds no state_*.pt"
    if found:
        problem = f"holds {len(found)} saved state(s), of which none can be read"
    raise UserError(
        f"--resume {wanted}: {path} {problem}. Name another file or folder, or start again without "
        "--resume."
    )


def refuse_another_training(run: Run, content: dict[str, Any], data: str) -> None:
    """Raises UserError where the state is of other settings or captions."""
    trained_settings(Path(run.config.resume), content)  # which refuses what cannot be compared
    saved, now = content["config"], run.config.public()
    problems = [
        f"--{name} was {saved.get(name)}, now {value}"
        for name, value in now.items()
        if name not in FREE and saved.get(name) != value
    ]
    if content["data"] != data:
        problems.append("the training captions are others, or in another order")
    if problems:
        raise UserError(
            f"--resume {run.config.resume}: that training was another one: {'; '.join(problems)}. "
            "Give its flags and data, or start a new one elsewhere with --init_model."
        )


def position_of(run: Run, content: dict[str, Any]) -> Position:
    """Where the state stands. Raises UserError where it does not say so."""
    numbers = [content["position"].get(name) for name in ("step", "evaluated", "skipped")]
    results = content["position"].get("results")
    known = all(type(n) is int and 0 <= n < 2**53 for n in numbers) and are_results(results)
    if not known:
        raise UserError(f"--resume {run.config.resume}: the state does not say where it stands.")
    return Position(*numbers, results)


def are_results(results: Any) -> bool:
    """Whether these are results of evaluations as `train` keeps them, as far as it reads them."""
    if not isinstance(results, dict) or not is_small(results):
        return False
    try:
        for result in results.values():
            table(result)
            whole = type(result["epoch"]) is int and type(result["step"]) is int
            if not whole or not isinstance(result["label"], str):
                return False
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        return False
    return True


def is_small(content: Any) -> bool:
    """Whether nested lists and dictionaries hold at most `MOST_VALUES` numbers and strings.

    A list that holds another twice, and so on, has few bytes in a file and no end when it is shown.
    """
    waiting, count = [content], 0
    while waiting:
        value, count = waiting.pop(), count + 1
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
        elif not isinstance(value, str | int | float | None):
            return False
        if count > MOST_VALUES:
            return False
    return True


def load_moments(source: str, own: list[dict[str, Tensor]], saved: list[Any]) -> None:
    """Put the saved moments in the place of the optimiser's own; `source` says whose they are.

    Raises:
        UserError: they are of other weights.
    """
    fits = len(own) == len(saved) and all(
        isinstance(theirs, dict)
        and theirs.keys() == mine.keys()
        and all(isinstance(t, Tensor) and t.shape == mine[name].shape for name, t in theirs.items())
        for mine, theirs in zip(own, saved, strict=True)
    )
    if not fits:
        raise UserError(f"{source}: the optimiser's state is not one of these weights.")
    for mine, theirs in zip(own, saved, strict=True):
        for name, tensor in mine.items():
            tensor.copy_(theirs[name])


def announce(run: Run, content: dict[str, Any], position: Position) -> None:
    """Say in the log where the training goes on, and what is not as it was."""
    run.log.info("going on after step %d", position.step)
    before, now = content["processes"], run.ranks.world_size
    if before != now:
        run.log.warning(
            "warning: %d process(es) before, %d now: the same batches in the same order, but sums "
            "are rounded otherwise",
            before,
            now,
        )
