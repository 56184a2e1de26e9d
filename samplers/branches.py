"""The branches of a rollout while it is hot: from active latents to one composed velocity.

Denoising only reads the histories; `commit` alone writes to them, and every branch stores the same
composed latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from ..attention.snapshot import Snapshot, join
from ..errors import BadInput, NotFinite
from .conditioning.known_frame import LookaheadFrames
from .conditioning.prompts import InForce, fit_length
from .denoiser import Denoiser
from .evaluator import Evaluator
from .guidance import Branch, OwnPrompt, Prompt, View
from .guidance.combine import combine, limited
from .guidance.prompt import order
from .guidance.score import BEFORE_FRAMES
from .history.caches import CacheView, Histories
from .history.plan import planned_bytes
from .noise import frame_noise
from .pass_attention import PassVisibility, SparseRollout
from .schedule.rows import Row
from .settings import RolloutSettings


class Branches:
    """Evaluates the model for all branches; `settings` and prompts are those in force."""

    def __init__(self, settings: RolloutSettings, model: Denoiser) -> None:
        self.settings, self.model = settings, model
        self.in_force = settings.in_force(0, 1)
        self._planned = _views(settings)
        self._prompts = settings.guidance.prompts
        self._before = self.nothing()  # the last finished latent frames, for scores
        self._stop = 0  # the latent frame after them
        self._evaluator = Evaluator(model, settings.solver.process, settings.reference)
        self._histories: Histories | None = None

    @property
    def evals(self) -> int:
        """Evaluations of the model so far: each branch of each pass is one."""
        return self._evaluator.evals

    @property
    def histories(self) -> Histories:
        """The KV caches; they exist from the first claim on."""
        assert self._histories is not None
        return self._histories

    def claim(self) -> None:
        """Claim the model; the first time with the KV caches' bytes, which are allocated then."""
        if self._histories is not None:
            self._evaluator.claim(0)
            return
        config, dtype = self.model.config, self.model.dtype
        self._evaluator.claim(planned_bytes(self.settings, config, dtype))
        self._histories = Histories(self.settings, self._evaluator)
        histories = self._histories
        self.sparse = SparseRollout(self.settings, histories.plans, histories.caches)
        self._evaluator.to_prompt = self.sparse.to_prompt

    def use(self, settings: RolloutSettings, first: int) -> None:
        """Put `settings` in force from latent frame `first` on; other prompts are projected."""
        if not _views(settings) <= self._planned:
            raise BadInput(
                "while a rollout runs its guidance may get other weights, not other branches; stop "
                "it and start again."
            )
        self.settings = self.histories.settings = settings
        now = settings.in_force(first, first + settings.active_frames)
        if self._evaluator.projected and now.same(self.in_force):
            return
        self._evaluator.project({prompt: self._texts(prompt, now) for prompt in self._prompts})
        before, self.in_force = self.in_force, now
        self.histories.in_force = now
        if now.front is not before.front:
            self.histories.prompts_changed()
            self.sparse.history_changed()

    def snapshot(self) -> Snapshot:
        """All that later chunks depend on; the prompts in force are not in it."""
        before = Snapshot({"latents": self._before.to("cpu", copy=True)}, {"stop": self._stop})
        parts = {"histories": self.histories.snapshot(), "sparse": self.sparse.snapshot()}
        return join({}, {"before": before, **parts})

    def restore(self, snapshot: Snapshot, in_force: InForce) -> None:
        """Go on, bit for bit, from what `snapshot` gave for the same settings and prompts.

        The model must be claimed. ValueError where the snapshot does not fit.
        """
        self.histories.restore(snapshot.part("histories"))
        self.sparse.restore(snapshot.part("sparse"))
        before = snapshot.part("before")
        self._before = before.tensors["latents"].to(self.model.device)
        self._stop = before.facts["stop"]
        self.in_force = self.histories.in_force = in_force

    def velocity(self, x: Tensor, row: Row, ahead: LookaheadFrames | None = None) -> Tensor:
        """The composed velocity of the row's active latents x (f, c, h, w), in float32.

        Known frames `ahead` pass the model in front of them: they see the history and one another.
        """
        guidance, started = self.settings.guidance, self.histories.committed > 0
        steps = list(zip(row.now, row.steps, strict=True))
        weights = [guidance.weights(level, step, started=started) for level, step in steps]
        sums = self._weighted_places(weights, ahead=ahead is not None)
        order = sorted(sums, key=_order)
        predictions = self._predictions(x, row, order, ahead).float()
        v = combine(predictions, [sums[place] for place in order])
        if guidance.limits.need_base:
            base = self._base_place(ahead=ahead is not None)
            v = limited(v, predictions[order.index(base)], guidance.limits)
        levels = torch.tensor(row.now, device=v.device).view(-1, 1, 1, 1)
        factors = [guidance.factor(level, step, started=started) for level, step in steps]
        if any(factors):
            strength = v.new_tensor(factors).view(-1, 1, 1, 1)
            for pull in guidance.pulls:
                v = v - pull.on(x - levels * v, self._before, row.first, strength=strength)
        return v

    def commit(self, first: int, clean: Tensor, given: Sequence[bool] = ()) -> None:
        """Pass finished latents (f, c, h, w) once more and store what every branch will see.

        Every history gets the same composed latents: guidance and solver never see this pass.
        `given` says which frames are known ones, not generated; none unless told.
        """
        self.histories.commit(first, clean, given or [False] * len(clean))
        self.sparse.history_changed()
        earlier = self._before if first == self._stop else self._before[:0]
        self._before = torch.cat([earlier, clean.float()])[-BEFORE_FRAMES:]
        self._stop = first + len(clean)

    def check_finite(self, latents: Tensor, first: int) -> None:
        """Raise NotFinite, naming the layer, unless the latents from frame `first` are finite."""
        if torch.isfinite(latents).all():
            return
        noise = self.noise(range(first, first + len(latents)), 0, "start", at=first)
        layers = self._evaluator.evaluate(
            noise.unsqueeze(0),
            [[1.0] * len(latents)],
            [self.histories.plans[0].rows[0].prompt],
            self.histories.caches[0].attention(len(latents), rows=slice(0, 1)),
            frames=range(first, first + len(latents)),
            keep=True,
        ).keys_values
        bad = (
            f"layer {i}" for i, kv in enumerate(layers) if not all(x.isfinite().all() for x in kv)
        )
        raise NotFinite(
            f"the model produced values that are not finite at latent frame {first}, first seen in "
            f"{next(bad, 'its output')}, in {self.model.dtype}; earlier chunks are kept: "
            "try float32 or bfloat16 weights, or a lower guidance scale."
        )

    def nothing(self) -> Tensor:
        """No active latent frames."""
        s, c = self.settings, self.model.config.out_channels
        return torch.empty(0, c, s.rows, s.columns, device=self.model.device)

    def noise(self, frames: range, step: int, purpose: str, *, at: int) -> Tensor:
        """Addressed noise (f, c, h, w) of latent `frames`, on the model's device; `at` is the first
        frame of the chunk that is made, whose seed is in force.
        """
        s = self.settings
        shape = (self.model.config.out_channels, s.rows, s.columns)
        return frame_noise(s.seed_at(at), frames, step, purpose, shape).to(self.model.device)

    def _texts(self, prompt: Prompt, now: InForce) -> list[Tensor]:
        """The embeddings of a prompt, as many as are in force together."""
        negative = self.settings.prompts.negative
        if prompt == "positive":
            return [one.embedding for _, one in now.prompts]
        if isinstance(prompt, OwnPrompt):
            return [fit_length(prompt.embedding.to(negative), len(negative))] * len(now.prompts)
        return [negative] * len(now.prompts)

    def _weighted_places(
        self, weights: Sequence[Sequence[float]], *, ahead: bool
    ) -> dict[CacheView, list[float]]:
        """What is evaluated and each frame's weight for it; weights (f, branches).

        Branches that see the same at this moment are one: with no history yet, all of a prompt.
        """
        guidance = self.settings.guidance
        sums: dict[CacheView, list[float]] = {}
        by_branch = zip(*weights, strict=True)
        for branch, of_branch in zip(guidance.all_branches, by_branch, strict=True):
            if any(of_branch):
                place = self.histories.place(branch, ahead=ahead)
                into = sums.setdefault(place, [0.0] * len(of_branch))
                into[:] = [a + b for a, b in zip(into, of_branch, strict=True)]
        sums = {place: w for place, w in sums.items() if any(abs(one) > 1e-9 for one in w)}
        if guidance.limits.need_base:
            sums.setdefault(self._base_place(ahead=ahead), [0.0] * len(weights))
        return sums

    def _base_place(self, *, ahead: bool) -> CacheView:
        return self.histories.place(Branch(0.0, self.settings.guidance.base), ahead=ahead)

    def _predictions(
        self, x: Tensor, row: Row, places: list[CacheView], ahead: LookaheadFrames | None
    ) -> Tensor:
        """Velocities (b, f, c, h, w) of all places: in one pass, or one after another.

        Places that see nothing ahead have fewer latent frames and so a pass of their own.
        """
        passes = [[place] for place in places]
        if self.settings.guidance.at_once:
            passes = [[*part] for _, part in groupby(places, lambda p: p.ahead is None)]
        return torch.cat([self._pass(x, row, part, ahead) for part in passes])

    def _pass(
        self, x: Tensor, row: Row, places: list[CacheView], ahead: LookaheadFrames | None
    ) -> Tensor:
        """Velocities (b, f, c, h, w) of the active frames for `places`, alike in what is ahead."""
        given = [self._given(ahead, place.ahead, row.first) for place in places]
        frames, count = given[0].frames, len(given[0].frames)
        visible = [count + seen for seen in self.settings.visible(row.frames)]
        offsets = [frame - row.first for frame in (*frames, *row.frames)]
        furthest = [-row.first] * count if row.lowest else []  # what is ahead sees all of the past
        lowest = [*furthest, *(frame - row.first for frame in row.lowest)]
        progress = [*[1.0] * count, *row.progress]
        sight = PassVisibility([count] * count + visible, offsets, lowest, progress)
        made = self._evaluator.evaluate(
            torch.stack([torch.cat([one.latents, x]) for one in given]),
            [(*one.levels, *row.now) for one in given],
            [place.prompt for place in places],
            sight.through(places, self.histories.caches, self.sparse),
            frames=(*frames, *row.frames),
            texts=[self.in_force.text_of(frame) for frame in (*frames, *row.frames)],
        )
        return made.velocity[:, count:]

    def _given(
        self, ahead: LookaheadFrames | None, least: float | None, first: int
    ) -> LookaheadFrames:
        """What a place sees of what is ahead: all at level `least` or above, or nothing."""
        if ahead is None or least is None:
            return LookaheadFrames((), self.nothing(), ())
        parts = [self.noise(range(f, f + 1), 0, "start", at=first) for f in ahead.frames]
        return ahead.noised(torch.cat(parts), least, self._evaluator.process)


def _order(place: CacheView) -> tuple[object, ...]:
    """Places that can share a pass, and then an attention, side by side."""
    blind, cut = place.ahead is None, place.slots is not None
    slots, prompt = place.slots or (), order(place.prompt)
    return blind, place.cache, cut, slots, place.row, prompt, place.ahead or 0.0


def _views(settings: RolloutSettings) -> set[tuple[Prompt, View]]:
    return {(branch.prompt, branch.view) for branch in settings.guidance.all_branches}
