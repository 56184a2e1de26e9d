"""The branches of a rollout while it is hot: from active latents to one composed velocity.

Denoising only reads the histories; `commit` alone writes to them, and every branch stores the same
composed latents.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..attention.kv_view import PartOfHistory, SideBySide
from ..attention.snapshot import Snapshot, joined
from ..errors import BadInput, NotFinite
from ..model.dit import SelfAttention
from .cache_plan import planned_bytes
from .denoiser import Denoiser
from .evaluator import Evaluator
from .guidance import Branch, Prompt, View
from .guidance.combine import combine, limited
from .histories import Histories, Place
from .noise import frame_noise
from .prompts import TimedPrompt
from .schedule import Row
from .settings import RolloutSettings
from .sparse import SparseRollout


class Branches:
    """Evaluates the model for all branches; `settings` and `prompt` are those in force."""

    def __init__(self, settings: RolloutSettings, model: Denoiser) -> None:
        self.settings, self.model = settings, model
        self.prompt = settings.prompts.entries[0]
        self._planned = _views(settings)
        self._prompts = settings.guidance.prompts
        self._before = self.nothing()  # the last finished latent frame, (1, c, h, w)
        self._evaluator = Evaluator(model, settings.solver.process)
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

    def use(self, settings: RolloutSettings, prompt: TimedPrompt) -> None:
        """Put `settings` in force, and `prompt`, which is projected if it is another one."""
        if not _views(settings) <= self._planned:
            raise BadInput(
                "while a rollout runs its guidance may get other weights, not other branches; stop "
                "it and start again."
            )
        self.settings = self.histories.settings = settings
        if self._evaluator.projected and prompt is self.prompt:
            return
        texts = {"positive": prompt.embedding, "negative": settings.prompts.negative}
        self._evaluator.project({name: texts[name] for name in self._prompts})
        if prompt is not self.prompt:
            self.histories.prompts_changed()
            self.sparse.history_changed()
        self.prompt = prompt

    def snapshot(self) -> Snapshot:
        """All that later chunks depend on; the prompt in force is not in it."""
        before = Snapshot({"latents": self._before.to("cpu", copy=True)})
        parts = {"histories": self.histories.snapshot(), "sparse": self.sparse.snapshot()}
        return joined({}, {"before": before, **parts})

    def restore(self, snapshot: Snapshot, prompt: TimedPrompt) -> None:
        """Go on, bit for bit, from what `snapshot` gave for the same settings under `prompt`.

        The model must be claimed. ValueError where the snapshot does not fit.
        """
        self.histories.restore(snapshot.part("histories"))
        self.sparse.restore(snapshot.part("sparse"))
        self._before = snapshot.part("before").tensors["latents"].to(self.model.device)
        self.prompt = prompt

    def velocity(self, x: Tensor, row: Row) -> Tensor:
        """The composed velocity of the row's active latents x (f, c, h, w), in float32."""
        guidance, started = self.settings.guidance, self.histories.committed > 0
        steps = list(zip(row.now, row.steps, strict=True))
        weights = [guidance.weights(level, step, started=started) for level, step in steps]
        sums = self._weighted_places(weights)
        order = sorted(sums, key=lambda p: (p.cache, p.slots or (), p.row, p.prompt))
        predictions = self._predictions(x, row, order).float()
        v = combine(predictions, [sums[place] for place in order])
        if guidance.limits.need_base:
            v = limited(v, predictions[order.index(self._base_place())], guidance.limits)
        levels = torch.tensor(row.now, device=v.device).view(-1, 1, 1, 1)
        factors = [guidance.factor(level, step, started=started) for level, step in steps]
        if any(factors):
            factor = v.new_tensor(factors).view(-1, 1, 1, 1)
            for pull in guidance.pulls:
                v = v - factor * pull.on(x - levels * v, self._before, row.first)
        return v

    def commit(self, first: int, clean: Tensor, given: Sequence[bool] = ()) -> None:
        """Pass finished latents (f, c, h, w) once more and store what every branch will see.

        Every history gets the same composed latents: guidance and solver never see this pass.
        `given` says which frames are known ones, not generated; none unless told.
        """
        self.histories.commit(first, clean, given or [False] * len(clean))
        self.sparse.history_changed()
        self._before = clean[-1:].float()

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

    def _weighted_places(self, weights: Sequence[Sequence[float]]) -> dict[Place, list[float]]:
        """What is evaluated and each frame's weight for it; weights (f, branches).

        Branches that see the same at this moment are one: with no history yet, all of a prompt.
        """
        guidance = self.settings.guidance
        sums: dict[Place, list[float]] = {}
        by_branch = zip(*weights, strict=True)
        for branch, of_branch in zip(guidance.all_branches, by_branch, strict=True):
            if any(of_branch):
                into = sums.setdefault(self.histories.place(branch), [0.0] * len(of_branch))
                into[:] = [a + b for a, b in zip(into, of_branch, strict=True)]
        sums = {place: w for place, w in sums.items() if any(abs(one) > 1e-9 for one in w)}
        if guidance.limits.need_base:
            sums.setdefault(self._base_place(), [0.0] * len(weights))
        return sums

    def _base_place(self) -> Place:
        return self.histories.place(Branch(0.0, self.settings.guidance.base))

    def _predictions(self, x: Tensor, row: Row, places: list[Place]) -> Tensor:
        """Velocities (b, f, c, h, w) of all places: in one pass, or one after another."""
        passes = [places] if self.settings.guidance.at_once else [[place] for place in places]
        made = [
            self._evaluator.evaluate(
                x.expand(len(part), -1, -1, -1, -1),
                [row.now] * len(part),
                [place.prompt for place in part],
                self._attention(part, self.settings.visible(row.frames), max(row.now)),
            ).velocity
            for part in passes
        ]
        return torch.cat(made)

    def _attention(
        self, places: Sequence[Place], visible: Sequence[int], level: float
    ) -> SelfAttention:
        """What all `places` look at in one pass at a noise level, neighbouring rows together."""
        runs: list[list[Place]] = []
        for place in places:
            if runs and place.follows(runs[-1][-1]):
                runs[-1].append(place)
            else:
                runs.append([place])
        parts = [(len(run), self._attention_of(run, visible, level)) for run in runs]
        return parts[0][1] if len(parts) == 1 else SideBySide(parts)

    def _attention_of(
        self, run: Sequence[Place], visible: Sequence[int], level: float
    ) -> SelfAttention:
        first = run[0]
        cache, rows = self.histories.caches[first.cache], slice(first.row, first.row + len(run))
        if first.slots is None:
            attention = cache.attention(len(visible), visible, rows=rows, at=first.at)
            return self.sparse.over(first.cache, attention, level)
        return PartOfHistory(cache, visible, rows, first.slots, first.at)


def _views(settings: RolloutSettings) -> set[tuple[Prompt, View]]:
    return {(branch.prompt, branch.view) for branch in settings.guidance.all_branches}
