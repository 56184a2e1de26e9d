"""The sampling loop: turns a noise-level schedule into finished chunks, without end if asked.

A row of the schedule holds the active latent frames with their levels now and next. For each row
the loop evaluates the model, combines the guidance branches and lets the solver step. Frames that
became clean are committed: one extra pass that stores their keys and values. Denoising only reads
the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from ..attention.snapshot import Snapshot, check_form, join
from ..attention.sparse.stats import SparseStats
from ..machine.uploads import upload
from ..machine.wide_numbers import bring
from .branches import Branches
from .current import CurrentSettings
from .denoiser import Denoiser
from .feature_caching import Evaluations
from .history.rollout_history import RolloutHistory
from .rules.anchor import AnchorChunks
from .schedule.row import Row
from .settings import RolloutSettings
from .solvers.single_step import Move, State


@dataclass(frozen=True, slots=True)
class Chunk:
    """Latent frames that finished together: latents (f, c, h, w), float32, CPU, normalised.

    `first_frame` is the index of the first latent frame in the rollout. `seconds` is the time spent
    and `kv_bytes` the size of the KV cache afterwards (0 for chunks that were read back), with
    `offloaded_bytes` in main memory or files beside it.
    `in_flight` is the state of later latent frames that were active then (f, ...): their latents
    and the solver's memory. `sparse` holds the totals of sparse attention in the rollout so far.
    `recalled` are the past latent frames that were fetched into the window for this chunk.
    `replaced_evals` are the evaluations that feature caching has replaced, beside `model_evals`.
    """

    index: int
    first_frame: int
    latents: Tensor
    prompt: str = ""
    model_evals: int = 0
    seconds: float = 0.0
    kv_bytes: int = 0
    in_flight: State = ()
    sparse: SparseStats | None = None
    recalled: tuple[int, ...] = ()
    offloaded_bytes: int = 0
    replaced_evals: int = 0

    @property
    def evaluations(self) -> Evaluations:
        """The evaluations of the model for this chunk."""
        return Evaluations(self.model_evals, self.replaced_evals)


SettingsAt = Callable[[int], RolloutSettings]
"""What is in force for the chunk that begins at a latent frame."""


def generate(
    settings: RolloutSettings,
    model: Denoiser,
    finished: Iterable[Chunk] = (),
    settings_at: SettingsAt | None = None,
) -> Iterator[Chunk]:
    """Yield the chunks of a new `Loop`, continuing after `finished` ones."""
    return Loop(settings, model, settings_at).chunks(finished)


def by_chunk(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Group rows so that each group ends with a row that finishes latent frames."""
    gathered: list[Row] = []
    for row in rows:
        gathered.append(row)
        if row.finished:
            yield gathered
            gathered = []


class Loop:
    """The sampling loop with its caches.

    The loop calls `settings_at(first)` as each chunk begins, replayed or new. Live edits return
    other prompts or guidance weights for latent frame `first` on.
    """

    def __init__(
        self, settings: RolloutSettings, model: Denoiser, settings_at: SettingsAt | None = None
    ) -> None:
        self.current, self.device = CurrentSettings(settings), model.device
        self.settings_at: SettingsAt = settings_at or settings.at
        self.branches = Branches(self.current, model)
        self.anchors = AnchorChunks(settings.anchor, model.config.out_channels)
        self._index = self._first = 0  # the first chunk and latent frame that is not committed
        self._begun = False  # whether that chunk is in the making, its prompt projected
        self._prompted = 0  # the latent frame from which on the prompt of the caches is in force
        self.settled = True  # whether the history is whole, and that of all chunks before `index`

    @property
    def settings(self) -> RolloutSettings:
        return self.current.settings

    @property
    def index(self) -> int:
        """The first chunk that is not committed."""
        return self._index

    def chunks(self, finished: Iterable[Chunk] = (), in_flight: State = ()) -> Iterator[Chunk]:
        """Yield chunks, continuing after `finished` ones by replaying their commits (same bits).

        A chunk is yielded as soon as it is clean, and committed when the next one begins. Where
        chunks overlap, the last finished chunk brings the state of those in flight. If all finished
        chunks are in the history already, `in_flight` is that state.
        """
        index, first, active = self._replay(finished, in_flight)
        done: tuple[int, Tensor] | None = None
        for rows in by_chunk(self.settings.noise_rows(first)):
            began, before = time.perf_counter(), self.branches.evaluations
            self.settled = False
            self._begin(rows[0].first, done)
            self._index, self._first, self._begun = index, rows[0].first, True
            made_for_it = (
                0 < self._prompted == self._first and self.settings.on_prompt_change != "keep"
            )
            self.settled = not made_for_it  # a fork may go on with another prompt
            for row in rows:
                active = self._step(row, active)
            count, first = rows[-1].finished, rows[-1].first
            clean, active = active[0][:count], tuple(part[count:] for part in active)
            clean = self._with_start(first, clean)
            self.branches.check_finite(clean, first)
            clean = self.anchors.apply(first, clean, self._known(first, count), self._prompt_start)
            done = (first, clean)
            cost, seconds = self.branches.evaluations - before, time.perf_counter() - began
            latents, prompt = clean.float().cpu(), self.current.prompts.front.text
            in_flight = tuple(part.cpu() for part in active) if len(active[0]) else ()
            kv_bytes = self.branches.kv_bytes
            offloaded = sum(cache.offloaded_bytes for cache in self.branches.caches)
            self._begun = False
            sparse = self.branches.sparse_stats
            yield Chunk(
                index, first, latents, prompt, cost.computed, seconds, kv_bytes, in_flight, sparse,
                self.branches.history.recalled, offloaded, cost.replaced,
            )  # fmt: skip
            index += 1

    def snapshot(self) -> Snapshot:
        """The state before chunk `index`; take it only while `settled`."""
        facts = {
            "index": self._index,
            "first": self._first,
            "begun": self._begun,
            "prompted": self._prompted,
        }
        parts = {"branches": self.branches.snapshot(), "anchors": self.anchors.snapshot()}
        return join(facts, parts)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot: chunk `index` is then the first of the `finished` ones.

        ValueError if the snapshot does not fit.
        """
        self.branches.claim()
        check_form(snapshot, self.snapshot(), snapshot.facts["first"])
        self._index, self._first = snapshot.facts["index"], snapshot.facts["first"]
        self._prompted = snapshot.facts["prompted"]
        self.branches.restore(snapshot.part("branches"))
        self.anchors.restore(snapshot.part("anchors"))
        self.current.use_prompts(self.settings_at(self._prompted), self._prompted)
        if snapshot.facts["begun"]:  # perhaps under another prompt than this loop's
            self.branches.in_turn(RolloutHistory.forget_prompts)

    def _replay(self, finished: Iterable[Chunk], in_flight: State) -> tuple[int, int, State]:
        """Commit `finished` chunks again; returns the next chunk's index, its first latent frame
        and the state in flight.
        """
        index, first = self._index, self._first
        for chunk in finished:
            self.settled = False
            self._begin(chunk.first_frame)
            self.anchors.note(chunk.first_frame, chunk.latents, self._prompt_start)
            self._commit(chunk.first_frame, upload(chunk.latents, self.device))
            index, first = chunk.index + 1, chunk.first_frame + len(chunk.latents)
            self._index, self._first, self.settled = index, first, True
            in_flight = chunk.in_flight
        nothing = self.branches.no_latents()
        active = tuple(bring(part, self.device) for part in in_flight)
        return index, first, active or (nothing, *self.settings.solver.start(nothing))

    def _begin(self, first: int, done: tuple[int, Tensor] | None = None) -> None:
        """Claim the model for a chunk from frame `first` and commit the finished one before it.

        The commit still uses the old prompts; the new ones are projected afterwards.
        """
        self.branches.claim()
        if done is not None:
            self._commit(*done)
        before = self.current.prompts.front
        self.branches.use(self.settings_at(first), first)
        if not self.current.prompts.front.continues(before):
            self._prompted = first
        frames = range(first, self.settings.next_chunk(first + 1))
        self.branches.in_turn(lambda history: history.begin_chunk(frames))

    def _step(self, row: Row, active: State) -> State:
        """Take one row from the previous state to the state of all its frames at the next level.

        Latents are (f, c, h, w) float32. Where known frames leave nothing to change, nothing is
        evaluated.
        """
        solver = self.settings.solver
        x, *memory = self._join(row, active)
        x = self._with_start(row.first, x)
        row = self.settings.known_frames.limit(row)
        if row.now == row.after:
            return x, *memory
        now, after = (
            upload(torch.tensor(levels), x.device).view(-1, 1, 1, 1)
            for levels in (row.now, row.after)
        )
        ahead = self.settings.known_frames.lookahead_frames(row.frames, x)
        v = self.branches.velocity(x, row, ahead)
        noise = self._fresh_noise(row, x) if solver.stochastic else None
        x, state = solver.step(x, v, Move(now, after, noise), tuple(memory))
        return x, *state

    def _join(self, row: Row, active: State) -> State:
        """The state of the active frames, followed by frames that join in this row."""
        count = len(active[0])
        if count == len(row.frames):
            return active
        if any(row.steps[count:]):
            raise ValueError(
                f"latent frame {row.frames[count]} is in the middle of its steps, but the chunk "
                "before it did not bring its state"
            )
        frames, solver = row.frames[count:], self.settings.solver
        noise = self.branches.noise(frames, 0, "start", at=row.first)
        x = self.settings.known_frames.mix_into(noise, frames, solver.process)
        joining = (x, *solver.start(x))
        return tuple(torch.cat(parts) for parts in zip(active, joining, strict=True))

    def _with_start(self, first: int, x: Tensor) -> Tensor:
        """Latents x from frame `first` on, with the picture in place where a model asks for it."""
        reference = self.settings.reference
        return x if reference is None else reference.begin(first, x)

    def _commit(self, first: int, clean: Tensor) -> None:
        self.branches.commit(first, clean, self._known(first, len(clean)))

    def _known(self, first: int, count: int) -> list[bool]:
        return self.settings.known_frames.are_known(range(first, first + count))

    @property
    def _prompt_start(self) -> int:
        """The first latent frame of the chunk from which the prompt in force holds."""
        return self.current.prompts.prompts[0][0]

    def _fresh_noise(self, row: Row, x: Tensor) -> Tensor:
        """Noise for each frame of x (f, c, h, w); none for frames that become clean."""
        parts = [
            self.branches.noise(frames, step + 1, "renoise", at=row.first)
            if noisy
            else torch.zeros_like(x[: len(frames)])
            for frames, step, noisy in _neighbours(row)
        ]
        return torch.cat(parts)


def _neighbours(row: Row) -> Iterator[tuple[range, int, bool]]:
    """Neighbouring frames of a row at the same step, and whether they stay noisy after it."""
    for alike, numbers in groupby(
        range(len(row.frames)), lambda i: (row.steps[i], row.after[i] > 0)
    ):
        first, *rest = numbers
        yield row.frames[first : first + 1 + len(rest)], *alike
