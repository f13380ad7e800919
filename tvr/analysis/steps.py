"""Figure 9: the step that the theory takes with Δ against the one that the optimiser takes.

Our reading of the paper's figure. Its Δ minimises the loss, linearised in the increments of one
anchor, within a ball; that minimum is the ball's radius times minus the normalised gradient, over
all pairs of the anchor at once. With g_ij = ∂L/∂Δ_ij before a step of training, and δ_ij the change
of Δ_ij that this step of all weights brings about:

    δ_ij  = Δ_ij(after) − Δ_ij(before)
    δ*_ij = −ρ_i g_ij / sqrt(Σ_k ‖g_ik‖²),   ρ_i = sqrt(Σ_k ‖δ_ik‖²)

So both have the same length per anchor, and what can differ is how it is shared among the pairs
and where it points. Once L is the whole loss, which the optimiser follows, and once L_nce, which
the paper's derivation is of. Δ and g are taken on the batch of the step with dropout off; the step
itself is training's own, with its dropout, gradient clipping, weight decay and moments, at the
run's full learning rates, of which the schedule would take a share.

Shapes: A anchors and their videos, B = A, D embedding width, P pairs of all batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

from tvr.analysis.drawing import COLOURS, NEGATIVE, POSITIVE, label, panels
from tvr.analysis.result import Cell, Result, Unavailable
from tvr.analysis.subject import Request, Subject, open_subject
from tvr.dataloaders.batches import PairBatch
from tvr.dataloaders.records import Split
from tvr.models.losses import total_loss
from tvr.resume import load_moments, moments, states
from tvr.step import Learner, refuse_chunks, train_step
from tvr.train import learner_of
from tvr.utils.optim import set_learning_rate

NAME = "steps"
SHOWN = 1000  # pairs of each kind that are drawn and listed, evenly spaced
LOSSES = {"loss": "the whole loss", "nce": "L_nce"}
HEADER = ("gradient", "pairs", "batch", "anchor", "candidate", "actual", "analytic", "cosine")
MARKS = {POSITIVE: "^", NEGATIVE: "."}


@dataclass(frozen=True)
class Pairs:
    """Of every pair the lengths of both steps and their cosine, and where it is; each (P,)."""

    batch: Tensor
    anchor: Tensor
    candidate: Tensor
    actual: Tensor
    analytic: Tensor
    cosine: Tensor

    def __getitem__(self, rows: Tensor) -> Pairs:
        return Pairs(*(values_P[rows] for values_P in vars(self).values()))

    def of(self, kind: str) -> Pairs:
        """The positives' or the negatives' part."""
        return self[(self.anchor == self.candidate) == (kind == POSITIVE)]

    def selection(self) -> Pairs:
        """At most `SHOWN` of them, evenly spaced."""
        count = len(self.anchor)
        return self[torch.linspace(0, count - 1, min(count, SHOWN)).long()]


def analytic_step(gradient_ABD: Tensor, actual_ABD: Tensor) -> Tensor:
    """δ*_ij = −ρ_i g_ij / sqrt(Σ_k ‖g_ik‖²) with ρ_i = sqrt(Σ_k ‖δ_ik‖²), (A, B, D)."""
    radius_A, size_A = actual_ABD.norm(dim=(1, 2)), gradient_ABD.norm(dim=(1, 2))
    directions_ABD = gradient_ABD / size_A.clamp_min(torch.finfo(size_A.dtype).tiny)[:, None, None]
    return -radius_A[:, None, None] * directions_ABD


def cosines(x: Tensor, y: Tensor) -> Tensor:
    """Over the last dimension; 0 where one has no length."""
    lengths = x.norm(dim=-1) * y.norm(dim=-1)
    return torch.linalg.vecdot(x, y) / lengths.clamp_min(torch.finfo(lengths.dtype).tiny)


@dataclass(frozen=True)
class Compared:
    """The steps by one loss: every pair's, and of every anchor the cosine over all its pairs."""

    pairs: Pairs
    coupled_N: Tensor


def make(request: Request) -> Result:
    """One step on each of some batches, from the same weights and moments; nothing is written.

    Raises:
        Unavailable: the run has no Δ.
        UserError: no such checkpoint or data, or a video cannot be read.
    """
    subject = with_moments(request)
    if subject.model.psi is None:
        raise Unavailable(f"{subject.file} has no Δ, so that no step of it can be compared.")
    split = subject.split(request.split or "train")
    learner = learner_at(subject, split)
    found: dict[str, list[Compared]] = {loss: [] for loss in LOSSES}
    batches = subject.batches(split, request.batches)
    for number, (actual_ABD, gradients) in enumerate(steps(subject, learner, batches)):
        for loss, gradient_ABD in gradients.items():
            found[loss].append(compare(number, actual_ABD, gradient_ABD))
    whole = {loss: joined(these) for loss, these in found.items()}
    source = "its moments" if saved_moments(subject) else "an optimiser without moments"
    title = f"{len(whole['nce'].coupled_N)} anchors of {split.name}, {len(found['nce'])} steps"
    said = [f"{title}; {subject.file.name} with {source}"]
    said += [line for loss, these in whole.items() for line in summary(LOSSES[loss], these)]
    return Result(NAME, table(whole), draw(whole, title), said)


def with_moments(request: Request) -> Subject:
    """The run's last saved state, or what the command names, or else the checkpoint."""
    saved = states(request.run) if request.run.is_dir() and request.checkpoint is None else []
    return open_subject(saved[0], request.given, request.log) if saved else request.subject


def learner_at(subject: Subject, split: Split) -> Learner:
    """The model with its optimiser at the run's full learning rates, and moments if there are any.

    Raises:
        UserError: they are of other weights, or the model cannot be trained in chunks.
    """
    refuse_chunks(subject.model, subject.config.chunk_size)
    if subject.config.grad_checkpointing:
        subject.model.checkpoint_activations()
    learner = learner_of(subject.run, subject.model, split)
    set_learning_rate(learner.optimizer, 1.0)
    saved = saved_moments(subject)
    if saved is not None:
        load_moments(str(subject.file), moments(learner), saved)
    return learner


def saved_moments(subject: Subject) -> list | None:
    """The optimiser's moments in a training's saved state; None in a checkpoint."""
    saved = subject.content.get("moments")
    return saved if isinstance(saved, list) else None


def steps(
    subject: Subject, learner: Learner, batches: Iterator[PairBatch]
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """For every batch actual_ABD and the gradients on Δ, each from the state at the start."""
    changing = list(subject.model.state_dict().values())
    changing += [value for state in moments(learner) for value in state.values()]
    at_start = [tensor.clone() for tensor in changing]
    for number, batch in enumerate(batches):
        before_ABD, gradients = increment_and_gradients(subject, batch)
        subject.model.train()
        train_step(learner, batch, number)
        learner.watch.flush()
        after_ABD, _ = increment_and_gradients(subject, batch)
        with torch.no_grad():
            for tensor, value in zip(changing, at_start, strict=True):
                tensor.copy_(value)
        yield after_ABD - before_ABD, gradients


def increment_and_gradients(subject: Subject, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """Δ_ij of a batch's pairs and the gradient on it of each of `LOSSES`, with dropout off."""
    text, video, scale = subject.features(batch)
    scores = subject.model.score(text, video)
    assert scores.delta_ABD is not None, "a model without Δ is not asked"
    settings = subject.config.loss_settings()
    terms = total_loss(scores.sim_AB, scores.delta_ABD, scale, batch.video_B, settings)
    gradients = {
        loss: torch.autograd.grad(terms[loss], scores.delta_ABD, retain_graph=True)[0]
        for loss in LOSSES
    }
    return scores.delta_ABD.detach(), gradients


def compare(number: int, actual_ABD: Tensor, gradient_ABD: Tensor) -> Compared:
    """Both steps on batch `number`, on the host."""
    analytic_ABD = analytic_step(gradient_ABD, actual_ABD)
    anchors, candidates = map(torch.arange, actual_ABD.shape[:2])
    anchor_AB, candidate_AB = torch.meshgrid(anchors, candidates, indexing="ij")
    lengths = (step.norm(dim=-1) for step in (actual_ABD, analytic_ABD))
    values = (torch.full_like(anchor_AB, number), anchor_AB, candidate_AB, *lengths)
    pairs = Pairs(*(v.cpu().flatten() for v in (*values, cosines(actual_ABD, analytic_ABD))))
    return Compared(pairs, cosines(actual_ABD.flatten(1), analytic_ABD.flatten(1)).cpu())


def joined(parts: list[Compared]) -> Compared:
    """Those of several batches as one."""
    values = zip(*(vars(part.pairs).values() for part in parts), strict=True)
    return Compared(Pairs(*map(torch.cat, values)), torch.cat([part.coupled_N for part in parts]))


def summary(loss: str, these: Compared) -> list[str]:
    """The means over pairs, in words."""
    lines = [f"by {loss}: cosine over all of an anchor's pairs {these.coupled_N.mean():.3f}"]
    for kind in MARKS:
        it = these.pairs.of(kind)
        lines.append(
            f"by {loss}, {kind}s: length {it.actual.mean():.4g}, analytic "
            f"{it.analytic.mean():.4g}, cosine {it.cosine.mean():.3f}"
        )
    return lines


def table(whole: dict[str, Compared]) -> list[tuple[Cell, ...]]:
    """First the means over all anchors and pairs, then the pairs that are drawn."""
    rows: list[tuple[Cell, ...]] = [HEADER]
    nowhere = ("", "", "")
    for loss, these in whole.items():
        coupled = float(these.coupled_N.mean())
        rows.append((loss, "mean over anchors", *nowhere, "", "", coupled))
        for kind in MARKS:
            it = these.pairs.of(kind)
            means = (float(v.mean()) for v in (it.actual, it.analytic, it.cosine))
            rows.append((loss, f"mean over {kind}s", *nowhere, *means))
    for loss, these in whole.items():
        for kind in MARKS:
            shown = (v.tolist() for v in vars(these.pairs.of(kind).selection()).values())
            rows += [(loss, kind, *row) for row in zip(*shown, strict=True)]
    return rows


def draw(whole: dict[str, Compared], title: str) -> Figure:
    """A line of panels for each loss: lengths against each other, and the cosines."""
    figure, axes = panels(len(whole), 2, f"Analytic and actual steps of Δ\n{title}")
    for (by_length, by_cosine), (loss, these) in zip(axes, whole.items(), strict=True):
        # negatives first, which are more, so that they hide no positive
        shown = {kind: these.pairs.of(kind).selection() for kind in reversed(MARKS)}
        for kind, it in shown.items():
            style = {"color": COLOURS[kind], "label": f"{kind}s"}
            marks = {"marker": MARKS[kind], "markersize": 3, "linestyle": "none"}
            by_length.plot(it.actual.tolist(), it.analytic.tolist(), **marks, **style)
            line = "-" if kind == POSITIVE else "--"
            by_cosine.ecdf(it.cosine.tolist(), linestyle=line, **style)
        equal = {"color": "grey", "linewidth": 1, "linestyle": ":"}
        by_length.axline((0, 0), slope=1, **equal)
        label(by_length, f"by {LOSSES[loss]}: lengths of a pair's step", "actual", "analytic")
        label(by_cosine, f"by {LOSSES[loss]}: cosine of both", "cosine", "share of pairs below")
    return figure
