"""The guidance branches of a running rollout: from active latents to one combined velocity.

Denoising only reads the history; `commit` alone writes to it. Every branch stores the same combined
latents.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..attention.history import HistoryCache
from ..attention.snapshot import Snapshot, join
from ..errors import BadInput, NotFinite
from .conditioning.known_frame import LookaheadFrames
from .conditioning.prompts import ActivePrompts, fit_length
from .current import CurrentSettings
from .denoiser import Denoiser
from .evaluator import Evaluator, PassInputs
from .guidance import Branch, OwnPrompt, Prompt, View
from .guidance.combine import combine, limit
from .guidance.prompt import order
from .guidance.score import SCORE_LOOKBACK_FRAMES
from .history.filler import CacheFiller
from .history.plan import planned_bytes
from .history.rollout_history import RolloutHistory
from .history.selection import CacheView
from .noise import LatentNoise
from .schedule.row import Row
from .settings import RolloutSettings
from .steering import Steering
from .view_passes import ViewPasses


class Branches:
    """Evaluates the model for all guidance branches under the `current` settings and prompts."""

    def __init__(
        self,
        current: CurrentSettings,
        model: Denoiser,
        make_filler: type[CacheFiller] = CacheFiller,
    ) -> None:
        settings, self._make_filler = current.settings, make_filler
        self.current, self.model = current, model
        self._planned = _views(settings)
        self._prompts = settings.guidance.prompts
        self._noise = LatentNoise.of(settings, model)
        self._finished = self.no_latents()  # the last finished latent frames, for scores
        self._stop = 0  # the latent frame after them
        process, reference = settings.solver.process, settings.reference
        steering = Steering(current, model.config)
        self._evaluator = Evaluator(model, process, reference, settings.sparsity, steering)
        self._history: RolloutHistory | None = None  # made by the first claim

    @property
    def evals(self) -> int:
        """Evaluations of the model so far; each branch of each pass counts."""
        return self._evaluator.evals

    @property
    def history(self) -> RolloutHistory:
        """The history, which exists from the first claim on."""
        assert self._history is not None
        return self._history

    @property
    def caches(self) -> Sequence[HistoryCache]:
        """The KV caches; none before the first claim."""
        return () if self._history is None else self._history.caches

    def claim(self) -> None:
        """Claim the model; the first claim asks for the KV caches' bytes and allocates them."""
        if self._history is not None:
            self._evaluator.claim(0)
            return
        model = self.model
        self._evaluator.claim(planned_bytes(self.current.settings, model.config, model.dtype))
        self._history = RolloutHistory(self.current, self._evaluator, self._make_filler)

    def use(self, settings: RolloutSettings, first: int) -> None:
        """Put `settings` in force from latent frame `first` on; other prompts are projected."""
        if not _views(settings) <= self._planned:
            raise BadInput(
                "while a rollout runs its guidance may get other weights, not other branches; stop "
                "it and start again."
            )
        before = self.current.prompts
        self.current.use(settings, first)
        prompts = self.current.prompts
        if self._evaluator.projected and prompts.same(before):
            return
        self._evaluator.project({prompt: self._texts(prompt, prompts) for prompt in self._prompts})
        if prompts.front is not before.front:
            self.history.prompts_changed()

    def snapshot(self) -> Snapshot:
        """All that later chunks depend on, except the prompts in force."""
        latents = {"latents": self._finished.to("cpu", copy=True)}
        finished = Snapshot(latents, {"stop": self._stop})
        return join({}, {"finished": finished, "history": self.history.snapshot()})

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from a snapshot of the same settings and prompts.

        The model must be claimed. ValueError if the snapshot does not fit.
        """
        finished = snapshot.part("finished")
        self.history.restore(snapshot.part("history"), finished.tensors["latents"].shape[1:])
        self._finished = finished.tensors["latents"].to(self.model.device)
        self._stop = finished.facts["stop"]

    def velocity(self, x: Tensor, row: Row, ahead: LookaheadFrames | None = None) -> Tensor:
        """The combined velocity of the row's active latents x (f, c, h, w), in float32.

        Known frames `ahead` pass the model in front of them: they see the history and one another.
        """
        guidance = self.current.settings.guidance
        started = self.history.frames.committed > 0
        steps = list(zip(row.now, row.steps, strict=True))
        weights = [guidance.weights(level, step, started=started) for level, step in steps]
        sums = self._weighted_views(weights, ahead=ahead is not None)
        views = sorted(sums, key=_pass_order)
        passes = ViewPasses(self.current, self._evaluator, self.history, self._noise)
        predictions = passes.predict(x, row, views, ahead).float()
        v = combine(predictions, [sums[view] for view in views])
        if guidance.limits.need_base:
            base = self._base_view(ahead=ahead is not None)
            v = limit(v, predictions[views.index(base)], guidance.limits)
        levels = torch.tensor(row.now, device=v.device).view(-1, 1, 1, 1)
        factors = [guidance.factor(level, step, started=started) for level, step in steps]
        if any(factors):
            strength = v.new_tensor(factors).view(-1, 1, 1, 1)
            for score in guidance.weighted_scores:
                clean = x - levels * v
                v = v - score.shift(clean, self._finished, row.first, strength=strength)
        return v

    def commit(self, first: int, clean: Tensor, known: Sequence[bool] = ()) -> None:
        """Pass finished latents (f, c, h, w) once more and store what every branch will see.

        `known` marks known frames, which were not generated; the default is none.
        """
        self.history.commit(first, clean, known or [False] * len(clean))
        earlier = self._finished if first == self._stop else self._finished[:0]
        self._finished = torch.cat([earlier, clean.float()])[-SCORE_LOOKBACK_FRAMES:]
        self._stop = first + len(clean)

    def check_finite(self, latents: Tensor, first: int) -> None:
        """Raise NotFinite, naming the layer, unless the latents from frame `first` are finite."""
        if torch.isfinite(latents).all():
            return
        frames = range(first, first + len(latents))
        inputs = PassInputs(
            self.noise(frames, 0, "start", at=first).unsqueeze(0),
            frames,
            [[1.0] * len(latents)],
            [self.history.plans[0].rows[0].prompt],
        )
        attention = self.history.caches[0].attention(len(latents), rows=slice(0, 1))
        layers = self._evaluator.evaluate(inputs, attention, keep=True).keys_values
        bad = (
            f"layer {i}" for i, kv in enumerate(layers) if not all(x.isfinite().all() for x in kv)
        )
        raise NotFinite(
            f"the model produced values that are not finite at latent frame {first}, first seen in "
            f"{next(bad, 'its output')}, in {self.model.dtype}; earlier chunks are kept: "
            "try float32 or bfloat16 weights, or a lower guidance scale."
        )

    def no_latents(self) -> Tensor:
        """Latents (0, c, h, w)."""
        return self._noise.empty()

    def noise(self, frames: range, step: int, purpose: str, *, at: int) -> Tensor:
        """Addressed noise (f, c, h, w) of latent `frames`, on the model's device.

        `at` is the first frame of the chunk in work; its seed is in force.
        """
        return self._noise.draw(self.current.settings.seed_at(at), frames, step, purpose)

    def _texts(self, prompt: Prompt, active: ActivePrompts) -> list[Tensor]:
        """A prompt's embeddings, one for each text that is active."""
        negative = self.current.settings.prompts.negative
        if prompt == "positive":
            return [timed.embedding for _, timed in active.prompts]
        if isinstance(prompt, OwnPrompt):
            return [fit_length(prompt.embedding.to(negative), len(negative))] * len(active.prompts)
        return [negative] * len(active.prompts)

    def _weighted_views(
        self, weights: Sequence[Sequence[float]], *, ahead: bool
    ) -> dict[CacheView, list[float]]:
        """The views to evaluate, each with its weight per frame; `weights` is (f, branches).

        Branches that see the same at this moment share a view: without history, all of a prompt.
        """
        guidance = self.current.settings.guidance
        sums: dict[CacheView, list[float]] = {}
        by_branch = zip(*weights, strict=True)
        for branch, frame_weights in zip(guidance.all_branches, by_branch, strict=True):
            if any(frame_weights):
                view = self.history.view_of(branch, ahead=ahead)
                total = sums.setdefault(view, [0.0] * len(frame_weights))
                total[:] = [a + b for a, b in zip(total, frame_weights, strict=True)]
        sums = {view: total for view, total in sums.items() if any(abs(w) > 1e-9 for w in total)}
        if guidance.limits.need_base:
            sums.setdefault(self._base_view(ahead=ahead), [0.0] * len(weights))
        return sums

    def _base_view(self, *, ahead: bool) -> CacheView:
        base = Branch(0.0, self.current.settings.guidance.base)
        return self.history.view_of(base, ahead=ahead)


def _pass_order(view: CacheView) -> tuple[object, ...]:
    """Puts views side by side that can share a pass, and then an attention."""
    blind, cut = view.level_ahead is None, view.slots is not None
    slots, prompt = view.slots or (), order(view.prompt)
    return blind, view.cache, cut, slots, view.row, prompt, view.level_ahead or 0.0


def _views(settings: RolloutSettings) -> set[tuple[Prompt, View]]:
    return {(branch.prompt, branch.view) for branch in settings.guidance.all_branches}
