"""The guidance branches of a running rollout: from active latents to one combined velocity.

Denoising only reads the history; `commit` alone writes to it. Every branch stores the same combined
latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ..attention.history import HistoryCache
from ..attention.snapshot import Snapshot, join
from ..attention.sparse.stats import SparseStats
from ..errors import BadInput, NotFinite
from ..machine.uploads import upload
from ..model.cross_attention import KeysValues
from .conditioning.embedding import fit, values_of
from .conditioning.known_frame import LookaheadFrames
from .conditioning.prompts import ActivePrompts
from .current import CurrentSettings
from .denoiser import Denoiser
from .evaluator import PassInputs
from .experts import Expert, Experts
from .feature_caching import Evaluations, FeatureCache
from .guidance import OwnPrompt, Prompt
from .guidance.combine import combine, limit
from .guidance.prompt import order
from .guidance.score import SCORE_LOOKBACK_FRAMES
from .guidance.terms import weights_by_view
from .history.filler import CacheFiller
from .history.rollout_history import RolloutHistory
from .history.selection import CacheView
from .noise import LatentNoise
from .pass_attention import ViewReader
from .schedule.row import Row
from .settings import RolloutSettings
from .view_passes import ViewPasses


class Branches:
    """Evaluates the model for all guidance branches under the `current` settings and prompts."""

    def __init__(
        self,
        current: CurrentSettings,
        model: Denoiser,
        make_filler: type[CacheFiller] = CacheFiller,
    ) -> None:
        settings = current.settings
        self.current, self.model = current, model
        self._planned = _views(settings)
        self._prompts = settings.guidance.prompts
        self._noise = LatentNoise.of(settings, model)
        self._finished = self.no_latents()  # the last finished latent frames, for scores
        self._stop = 0  # the latent frame after them
        self._features = FeatureCache(settings.feature_caching)
        self._experts = Experts(current, model, make_filler)

    @property
    def evaluations(self) -> Evaluations:
        """Evaluations of the model so far; each branch of each pass counts."""
        return self._experts.evaluations

    @property
    def history(self) -> RolloutHistory:
        """The history of the first weights, which exists from the first claim on."""
        return self._experts.histories[0]

    @property
    def caches(self) -> Sequence[HistoryCache]:
        """The KV caches of all histories; none before the first claim."""
        return [cache for history in self._experts.histories for cache in history.caches]

    @property
    def kv_bytes(self) -> int:
        """Bytes of all caches."""
        return sum(history.bytes for history in self._experts.histories)

    @property
    def sparse_stats(self) -> SparseStats | None:
        """What sparse attention did so far; None where attention is dense."""
        return self._experts.sparse_stats

    def claim(self) -> None:
        """Claim the model; the first claim asks for the KV caches' bytes and allocates them."""
        self._features.forget()
        self._experts.claim()

    def use(self, settings: RolloutSettings, first: int) -> None:
        """Put `settings` in force from latent frame `first` on; other prompts are projected."""
        read = {*settings.guidance.prompts}
        if not (_views(settings) <= self._planned and read <= {*self._prompts}):
            raise BadInput(
                "While a rollout runs its guidance may get other weights, not other branches or "
                "prompts; stop it and start again."
            )
        before = self.current.prompts
        self.current.use(settings, first)
        prompts = self.current.prompts
        same = prompts.same(before)
        if self._experts.projected and same:
            return
        self._experts.project({prompt: self._texts(prompt, prompts) for prompt in self._prompts})
        if not prompts.front.continues(before.front):
            self._experts.in_turn(RolloutHistory.prompts_changed)
        elif not same:  # a prompt beside others is projected with other rounding
            self._experts.in_turn(RolloutHistory.forget_prompts)

    def in_turn(self, change: Callable[[RolloutHistory], None]) -> None:
        """Do something to every history."""
        self._experts.in_turn(change)

    def snapshot(self) -> Snapshot:
        """All that later chunks depend on, except the prompts in force."""
        latents = {"latents": self._finished.to("cpu", copy=True)}
        finished = Snapshot(latents, {"stop": self._stop})
        return join({}, {"finished": finished, "experts": self._experts.snapshot()})

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from a snapshot of the same settings and prompts.

        The model must be claimed. ValueError if the snapshot does not fit.
        """
        finished = snapshot.part("finished")
        self._experts.restore(snapshot.part("experts"), finished.tensors["latents"].shape[1:])
        self._finished = finished.tensors["latents"].to(self.model.device)
        self._stop = finished.facts["stop"]

    def velocity(self, x: Tensor, row: Row, ahead: LookaheadFrames | None = None) -> Tensor:
        """The combined velocity of the row's active latents x (f, c, h, w), in float32.

        Known frames `ahead` pass the model in front of them: they see the history and one another.
        """
        guidance, expert = self.current.settings.guidance, self._experts.at(row.now)
        history = expert.history
        started = history.frames.committed > 0
        steps = list(zip(row.now, row.steps, strict=True))
        weights = [guidance.weights(level, step, started=started) for level, step in steps]
        view_of = partial(history.view_of, ahead=ahead is not None)
        sums = weights_by_view(guidance, weights, row.now, view_of)
        views = sorted(sums, key=_pass_order)
        passes = ViewPasses(self.current, expert.evaluator, history, self._noise, self._features)
        predictions = passes.predict(x, row, views, ahead).float()
        v = combine(predictions, [sums[view] for view in views])
        if guidance.limits.need_base:
            base = views.index(view_of(guidance.base_branch))
            v = limit(v, predictions[base], guidance.limits)
        factors = [guidance.factor(level, step, started=started) for level, step in steps]
        if any(factors):
            levels, strength = (
                upload(torch.tensor(values), v.device).view(-1, 1, 1, 1)
                for values in (row.now, factors)
            )
            for score in guidance.weighted_scores:
                clean = x - levels * v
                v = v - score.shift(clean, self._finished, row.first, strength=strength)
        return v

    def commit(self, first: int, clean: Tensor, known: Sequence[bool] = ()) -> None:
        """Pass finished latents (f, c, h, w) once more and store what every branch will see.

        `known` marks known frames, which were not generated; the default is none.
        """
        marks = known or [False] * len(clean)
        self._experts.in_turn(lambda history: history.commit(first, clean, marks))
        earlier = self._finished if first == self._stop else self._finished[:0]
        self._finished = torch.cat([earlier, clean.float()])[-SCORE_LOOKBACK_FRAMES:]
        self._stop = first + len(clean)

    def check_finite(self, latents: Tensor, first: int) -> None:
        """Raise NotFinite, naming the layer, unless the latents from frame `first` are finite."""
        if torch.isfinite(latents).all():
            return
        raise NotFinite(
            f"The model produced values that are not finite at latent frame {first}, first seen in "
            f"{self._first_bad_layer(first, len(latents))}, in {self.model.dtype}; earlier chunks "
            "are kept: try float32 or bfloat16 weights, or a lower guidance scale."
        )

    def _first_bad_layer(self, first: int, count: int) -> str:
        """The first layer of an expert that makes values that are not finite out of pure noise."""
        for i, expert in enumerate(self._experts):
            of = ["", " of the second model"][i]
            for layer, kv in enumerate(self._keys_values(expert, range(first, first + count))):
                if not all(x.isfinite().all() for x in kv):
                    return f"layer {layer % expert.evaluator.model.config.num_layers}{of}"
        return "its output"

    def _keys_values(self, expert: Expert, frames: range) -> tuple[KeysValues, ...]:
        """What an expert would store of pure noise in the place of `frames`."""
        prompt = expert.history.plans[0].rows[0].prompt
        view = CacheView(prompt, 0, 0, None, expert.history.caches[0].next_position)
        inputs = PassInputs(
            self.noise(frames, 0, "start", at=frames.start).unsqueeze(0),
            frames,
            [[1.0] * len(frames)],
            [prompt],
            ViewReader([view], expert.history, frames, (len(frames),) * len(frames)),
        )
        attention = expert.history.caches[0].attention(len(frames), rows=slice(0, 1))
        return expert.evaluator.evaluate(inputs, attention, keep=True).keys_values

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
            return [timed.values for _, timed in active.prompts]
        if isinstance(prompt, OwnPrompt):
            own = values_of(fit(prompt.embedding.to(negative), len(negative)))
            return [own] * len(active.prompts)
        return [negative] * len(active.prompts)


def _pass_order(view: CacheView) -> tuple[object, ...]:
    """Puts views side by side that can share a pass, and then an attention."""
    blind, cut = view.level_ahead is None, view.slots is not None
    slots, prompt = view.slots or (), order(view.prompt)
    passes = blind, view.skipped or (), view.skipped is None
    return passes, view.cache, cut, slots, view.row, prompt, view.level_ahead or 0.0


def _views(settings: RolloutSettings) -> set[tuple[object, ...]]:
    return {branch.inputs for branch in settings.guidance.all_branches}
