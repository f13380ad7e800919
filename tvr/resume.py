"""What a training needs to go on from where it was: written now and then, found, checked and read.

`state_STEP.pt` in the output folder holds the model, the optimiser's moments, the results so far
and what the run was asked for. No generator of random numbers is in it: every draw follows from
the seed and the step or epoch alone (dropout, order of captions, augmentation), so that a training
that goes on draws what one without interruption would have drawn.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tvr.build import BEST, STATES, Run
from tvr.checkpoint import (
    load_model,
    read_checkpoint,
    read_state,
    save_checkpoint,
    trained_settings,
)
from tvr.saved_state import Position, position_of
from tvr.step import Learner
from tvr.track import bring_records
from tvr.utils.distributed import broadcast_object, broadcast_tensors
from tvr.utils.errors import UserError
from tvr.utils.files import replacing
from tvr.utils.logging import device_name

NAME = re.compile(r"state_(\d{8,})\.pt")
# May be another where a training goes on, and change nothing but how sums are rounded
ROUNDING = ("compile", "chunk_size", "grad_checkpointing", "scoring", "video_decoder")
# These not even that. --on_bad_video: `error` ends a training where `skip` would begin another
FREE = (
    *("resume", "save_every", "keep_last", "overwrite", "workers", "n_display", "local_rank"),
    *("anno_path", "video_path", "output_dir", "frame_cache", "init_model"),
    *("device", "precision", "batch_size_val", "world_size", "contact_sheet", "export_features"),
    *("interaction", "center", "distributed", "dual_softmax", "sinkhorn", "qb_norm", "qb_bank"),
    *("allow_partial_gallery", "allow_partial_training", "do_eval", "on_nonfinite"),
    *("on_bad_video", "decode_timeout", "preset", "log_increment", "wandb", "report_examples"),
)


def states(folder: Path) -> list[Path]:
    """The saved states in a folder, the latest first."""
    found = [path for path in folder.glob(STATES) if NAME.fullmatch(path.name)]
    return sorted(found, key=step_of, reverse=True)


def step_of(state: Path) -> int:
    """How many updates the state of this name has seen."""
    match = NAME.fullmatch(state.name)
    assert match is not None, state
    return int(match[1])


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
        "circumstances": circumstances(run),
        "data": data,
        "moments": moments(learner),
        "position": vars(position),
    }
    written = run.output_dir / f"state_{position.step:08}.pt"
    save_checkpoint(written, learner.model, **facts)
    keep(run.output_dir, position.step, run.config.keep_last)


def keep(folder: Path, step: int, count: int) -> None:
    """Delete all but the last `count` states up to `step`, which is on the disk.

    Those of later steps are damaged, or of a training that was gone back from: they would be
    taken for the latest.
    """
    found = states(folder)
    past = [state for state in found if step_of(state) <= step]
    for state in {*found} - {*past[:count]}:
        state.unlink()


def circumstances(run: Run) -> dict[str, Any]:
    """What decides how sums are rounded, besides flags."""
    return {
        "processes": run.ranks.world_size,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "device": device_name(run.device),
        "precision": run.precision,
    }


def moments(learner: Learner) -> list[dict[str, Tensor]]:
    """The optimiser's state of every parameter, in the order of its groups."""
    optimizer = learner.optimizer
    return [optimizer.state[p] for group in optimizer.param_groups for p in group["params"]]


def restore(learner: Learner, data: str, total_steps: int) -> Position:
    """Put the state that `--resume` asks for into the learner, on every process.

    Only the main process reads it. For `auto` where there is none the learner stays as it is.
    Without `--resume` it does so too, and states of an earlier training are deleted.

    Raises:
        UserError: the state is not there, damaged, or of another training.
    """
    run, found, position = learner.run, None, None
    if run.ranks.is_main:
        if run.config.resume:
            found = find(run)
        else:
            keep(run.output_dir, step=-1, count=0)
        # of a process that was killed while it wrote
        for part in run.output_dir.glob(".*.part"):
            part.unlink()
    if found is not None:
        path, content = found
        refuse_another_training(run, content, data)
        position = position_of(content, f"--resume {run.config.resume}", total_steps)
        bring_best(run, path, position)
        if not lies_here(run, path):
            bring_records(run, path.parent)
    position = broadcast_object(position)
    if position is None:
        return Position()
    own = moments(learner)
    if found is not None:
        load_model(learner.model, content, path)
        load_moments(f"--resume {run.config.resume}", own, content["moments"])
        announce(run, content, position)
    broadcast_tensors(learner.model.state_dict().values())
    broadcast_tensors(tensor for state in own for tensor in state.values())
    learner.watch.go_on_after(position.skipped)
    return position


def find(run: Run) -> tuple[Path, dict[str, Any]] | None:
    """The latest state that can be read; None for `auto` where no state was ever written.

    Raises:
        UserError: there is none, or going on from it would delete later ones that were not named.
    """
    wanted = run.config.resume
    assert wanted is not None
    folder = run.output_dir if wanted == "auto" else Path(wanted)
    if folder.is_file():
        content = read_state(folder)
        make_way(run, folder)
        return folder, content
    found = states(folder)
    for state in found:
        try:
            content = read_state(state)
        except UserError as error:
            run.log.warning("warning: %s Trying the one before.", error)
            continue
        if folder.resolve() != run.output_dir.resolve():
            make_way(run, state)
        return state, content
    if wanted == "auto" and not found:
        return None
    problem = "holds no state_*.pt"
    if found:
        problem = f"holds {len(found)} saved state(s), of which none can be read"
    raise UserError(
        f"--resume {wanted}: {folder} {problem}. Name another file or folder, or start again "
        "without --resume."
    )


def lies_here(run: Run, state: Path) -> bool:
    """Whether a state is one of the output folder's."""
    return state.resolve().parent == run.output_dir.resolve()


def make_way(run: Run, chosen: Path) -> None:
    """For going on from `chosen`, where that gives up later states in the output folder.

    Raises:
        UserError: there are any, or of another folder's training, and no --overwrite 1.
    """
    here = lies_here(run, chosen)
    own = states(run.output_dir)
    # a state that was given another name may be of any step
    step = step_of(chosen) if NAME.fullmatch(chosen.name) else -1
    given_up = [state for state in own if not here or step_of(state) > step]
    if given_up and not run.config.overwrite:
        raise UserError(
            f"--resume {run.config.resume}: --output_dir {run.output_dir} holds "
            f"{', '.join(state.name for state in given_up)}, which what follows would replace. "
            "Choose another --output_dir, or pass --overwrite 1."
        )
    if not here:
        keep(run.output_dir, step=-1, count=0)


def bring_best(run: Run, state: Path, position: Position) -> None:
    """See to it that the best checkpoint so far is in the output folder, as `position` has it.

    A process that was killed between writing a better one and the state has left that better one:
    the evaluation that found it comes again, and will find it to be the best.

    Raises:
        UserError: it is not beside the state, or cannot be read.
    """
    if "best" not in position.results:
        return
    source, expected = state.parent / BEST, position.results["best"]["step"]
    try:
        step = read_checkpoint(source).get("step")
    except UserError as error:
        raise UserError(
            f"--resume {run.config.resume}: the best checkpoint so far is needed beside the state. "
            f"{error} Put it there, or start again from the weights with --init_model."
        ) from error
    if step != expected:
        run.log.info("%s is not of step %d: the next evaluation finds the best", BEST, expected)
        del position.results["best"]
    elif source.resolve() != (run.output_dir / BEST).resolve():
        with replacing(run.output_dir / BEST) as copy, source.open("rb") as file:
            shutil.copyfileobj(file, copy)


def refuse_another_training(run: Run, content: dict[str, Any], data: str) -> None:
    """Raises UserError where the state is of other settings or captions."""
    assert run.config.resume is not None
    trained_settings(Path(run.config.resume), content)  # which refuses what cannot be compared
    saved, now = content["config"], run.config.public()
    problems = [
        f"--{name} was {saved.get(name)}, now {value}"
        for name, value in now.items()
        if name not in (*FREE, *ROUNDING) and saved.get(name) != value
    ]
    if content["data"] != data:
        problems.append("the training captions are others, or in another order")
    if problems:
        raise UserError(
            f"--resume {run.config.resume}: that training was another one: {'; '.join(problems)}. "
            "Give its flags and data, or start a new one elsewhere with --init_model."
        )


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
    """Say in the log where the training goes on, and what rounds otherwise than it was."""
    run.log.info("going on after step %d", position.step)
    saved = {name: str(v) for name, v in content["circumstances"].items() if type(v) in (int, str)}
    changed = [
        f"{name} {saved.get(name, 'unknown'):.80} before, {value} now"
        for name, value in circumstances(run).items()
        if saved.get(name) != str(value)
    ]
    changed += [
        f"--{name} {content['config'].get(name)!s:.80} before, {value} now"
        for name in ROUNDING
        if content["config"].get(name) != (value := getattr(run.config, name))
    ]
    if changed:
        run.log.warning(
            "warning: %s: the same batches in the same order, but sums are rounded otherwise, and "
            "the end will not be the same bit for bit",
            "; ".join(changed),
        )
