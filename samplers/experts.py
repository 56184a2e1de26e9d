"""The weights that make a rollout's passes, and the histories that they write and read.

One set of weights makes all passes; or a second one makes the steps at low noise, with a history of
its own; or a second one writes the history that the first one reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import takewhile
from operator import add

from torch import Tensor

from ..attention.snapshot import Snapshot, join
from ..attention.sparse.stats import SparseStats
from ..errors import BadInput
from ..model.config import DiTConfig
from ..model.forward import ModelConfig
from .control_branch import check_control, control_branch
from .current import CurrentSettings
from .denoiser import Commits, Denoiser, LowNoise, SecondWeights
from .evaluator import Evaluator, Turn
from .feature_caching import Evaluations
from .guidance import Prompt
from .history.filler import CacheFiller
from .history.plan import planned_bytes
from .history.rollout_history import RolloutHistory
from .history.state_reading import check_state
from .recurrent_rules import check_recurrent
from .rules.coarse_past import check_coarse_model
from .settings import RolloutSettings, guidances_of
from .settings_checks import check_skipped_layers, check_voice
from .solvers.noise_process import TIMESTEPS, NoiseProcess
from .steering import Steering


@dataclass(frozen=True, slots=True)
class Expert:
    """Weights that make steps, and the history that they read."""

    evaluator: Evaluator
    history: RolloutHistory


class Experts:
    """The experts of a rollout under the `current` settings; the first claim opens their histories.

    `make_filler` makes what fills their KV caches.
    """

    def __init__(
        self, current: CurrentSettings, model: Denoiser, make_filler: type[CacheFiller]
    ) -> None:
        check_second_weights(current.settings, model)
        check_control(current.settings, model)
        check_state(current.settings, model.config)
        check_recurrent(current.settings, model.config)
        check_coarse_model(current.settings.cache, model.config)
        check_voice(current.settings.reference, model.config)
        check_skipped_layers(guidances_of(current.settings), model.config)
        self._current, self._make_filler, self._turn = current, make_filler, Turn()
        self._first = self._evaluator(model)
        self._second = self._evaluator(model.second.model) if model.second else None
        self._passes = model.second.passes if model.second else None
        self._opened: tuple[Expert, ...] = ()

    def _evaluator(self, model: Denoiser) -> Evaluator:
        s = self._current.settings
        steering = Steering(
            self._current, model.config, model.device, control_branch(self._current, model)
        )
        return Evaluator(model, s.solver.process, s.reference, s.sparsity, steering, self._turn)

    @property
    def _evaluators(self) -> list[Evaluator]:
        return [self._first, *([self._second] if self._second else [])]

    def __iter__(self) -> Iterator[Expert]:
        return iter(self._opened)

    def at(self, levels: Sequence[float]) -> Expert:
        """The expert for active latent frames at these levels: for the noisiest of them."""
        if isinstance(self._passes, LowNoise):
            return self._opened[is_low(max(levels), self._passes, self._first.process)]
        return self._opened[0]

    @property
    def evaluations(self) -> Evaluations:
        """Evaluations of the model so far, whichever weights made them."""
        return sum((one.evaluations for one in self._evaluators), Evaluations())

    @property
    def histories(self) -> list[RolloutHistory]:
        """The histories; none before the first claim."""
        return [expert.history for expert in self._opened]

    @property
    def sparse_stats(self) -> SparseStats | None:
        """What sparse attention did in all histories so far; None where attention is dense."""
        totals = [history.sparse_stats for history in self.histories]
        known = [total for total in totals if total is not None]
        return reduce(add, known) if known else None

    def claim(self) -> None:
        """Claim the weights whose turn is next: a chunk begins with the commits of the last one.

        The very first claim asks for the bytes of all KV caches.
        """
        if self._opened:
            writer = self._second if isinstance(self._passes, Commits) else self._turn.holder
            (writer or self._first).claim(0)
            return
        model = self._first.model
        kv_bytes = planned_bytes(self._current.settings, model.config, model.dtype)
        self._first.claim(model.histories * kv_bytes)
        self._opened = tuple(
            Expert(evaluator, RolloutHistory(self._current, writer, self._make_filler))
            for evaluator, writer in self._roles()
        )

    def _roles(self) -> list[tuple[Evaluator, Evaluator]]:
        """Who makes steps, and who writes the history that these read."""
        if self._second is None:
            return [(self._first, self._first)]
        if isinstance(self._passes, LowNoise):
            return [(evaluator, evaluator) for evaluator in self._evaluators]
        return [(self._first, self._second)]

    @property
    def projected(self) -> bool:
        """Whether prompts are in force."""
        return self._first.projected

    def project(self, embeddings: Mapping[Prompt, Sequence[Tensor]]) -> None:
        """Put prompts in force: the same number of texts (l, text_dim) for each prompt."""
        for evaluator in self._evaluators:
            evaluator.project(embeddings)

    def in_turn(self, change: Callable[[RolloutHistory], None]) -> None:
        """Do something to every history that takes passes, that of the claimed weights first."""
        holder = self._turn.holder
        for expert in sorted(self._opened, key=lambda expert: expert.evaluator is not holder):
            change(expert.history)

    def snapshot(self) -> Snapshot:
        """The state of all histories."""
        return join({}, {f"{i}": history.snapshot() for i, history in enumerate(self.histories)})

    def restore(self, snapshot: Snapshot, size: Sequence[int]) -> None:
        """Continue, bit for bit, from a snapshot; `size` is a latent frame's (c, h, w).

        ValueError if the snapshot does not fit.
        """
        for i, history in enumerate(self.histories):
            history.restore(snapshot.part(f"{i}"), size)


def is_low(level: float, passes: LowNoise, process: NoiseProcess) -> bool:
    """Whether the second weights make a step at a noise level."""
    return process.timestep(level) < TIMESTEPS * passes.below


def check_second_weights(settings: RolloutSettings, model: Denoiser) -> None:
    """BadInput where second weights cannot take turns with the first ones in such a rollout."""
    if model.second is None:
        return
    sizes = (_without_control(weights.config) for weights in (model, model.second.model))
    if len({*sizes}) > 1:
        raise BadInput(
            "The two models of a pair must have the same size and the same inputs; choose two "
            "files of one family."
        )
    if _straddles(settings, model.second):
        assert isinstance(model.second.passes, LowNoise)
        raise BadInput(
            f"The schedule has latent frames on both sides of the boundary "
            f"{model.second.passes.below:g} in one pass, and each side has a model of its own; "
            "choose causal chunks or full sequence."
        )


def _without_control(config: ModelConfig) -> ModelConfig:
    return replace(config, control_blocks=0) if isinstance(config, DiTConfig) else config


def _straddles(settings: RolloutSettings, second: SecondWeights) -> bool:
    """Whether a row of the first two chunks needs both weights."""
    passes, process = second.passes, settings.solver.process
    if not isinstance(passes, LowNoise):
        return False
    origin = settings.origin
    last = settings.next_chunk(origin + 1)
    rows = settings.schedule.rows(origin, settings.length, origin)
    return any(
        len({is_low(level, passes, process) for level in row.now if level > 0}) > 1
        for row in takewhile(lambda row: row.first <= last, rows)
    )
