"""Rollouts inside the host: their models, VAEs and KV caches are claimed before each chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...samplers.settings import RolloutSettings
from ...stream.journal.chain import ModelHistory
from ...stream.preview.messages import Plan
from ...stream.rollout.rollout import Rollout
from ...stream.rollout.spec import RolloutSpec
from .. import host
from ..advice import less_memory
from ..length import Length, length_of
from ..planning.estimate import Planner
from ..planning.footprint import RolloutFootprint
from .claim import Claim
from .host_codec import reserve_codec
from .resolved_model import ResolvedModel
from .run_observer import HostRunObserver
from .session import session


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a rollout comes from: the node that shows it and the model it was resolved with.

    `session_only` says why its chunks are useless after a restart, if they are. `from_model` is a
    sentence about the settings that come from the model.
    """

    node_id: str | None
    session_only: str | None = None
    from_model: str = ""


class HostRollout(Rollout):
    """A rollout of one of the host's models, with its memory planned.

    `claim` asks the host for the model and for everything that is loaded with it.
    """

    def __init__(
        self,
        spec: RolloutSpec,
        claim: Claim,
        provenance: Provenance,
        planner: Planner,
    ) -> None:
        footprint = planner.fitting(RolloutFootprint(spec.settings, spec.model))
        spec = replace(spec, settings=footprint.settings)
        super().__init__(spec, host.running_prompt, self._observe)
        self.claim, self.provenance, self.planner = claim, provenance, planner
        self.footprint, self.estimate = footprint, planner.estimate(footprint)
        claim.co_claimed.update(spec.settings.known_frames.sources)
        if spec.live is not None:
            claim.co_claimed.update(spec.live.sources)
        if spec.settings.control is not None:
            claim.co_claimed.update(spec.settings.control.sources)
        if spec.model.device.type != "cpu":  # the host cannot make room in main memory
            claim.working_bytes = lambda: self.footprint.working_bytes

    def _observe(self) -> HostRunObserver:
        self.claim.load_s = None
        status = f"{self.plan.text} {self.provenance.from_model}".rstrip()
        return HostRunObserver(self.spec, self.provenance.node_id, status)

    def get_models(self) -> list[Any]:
        """The models that the host keeps loaded while the prompt runs; the host calls this."""
        return self.claim.models

    @property
    def plan(self) -> Plan:
        """Length and memory, known before the run; without decoding."""
        return self.estimate.plan

    def drop_key_copies(self) -> bool:
        """Plan again without rotated copies of keys; False if it has none, or runs already."""
        if self.has_begun or not self.footprint.copied_bytes:
            return False
        self.footprint = self.footprint.lean
        self.estimate = self.planner.estimate(self.footprint)
        self.spec = replace(self.spec, settings=self.footprint.settings)
        return True

    @property
    def kv_on_host(self) -> bool:
        """Whether the KV cache waits in main memory, after a long pause or for other models."""
        return self.claim.memory.on_host

    @property
    def kv_bytes_planned(self) -> int:
        """The most bytes that the KV cache takes while chunks are made."""
        return self.footprint.kv_bytes

    @property
    def largest_latents(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a whole chunk."""
        return self.span(0).count, self.settings.rows, self.settings.columns


def host_spec(
    resolved: ResolvedModel, settings: RolloutSettings, history: ModelHistory | None = None
) -> RolloutSpec:
    """A spec over the host's journal and session, with the defaults of everything else.

    `history` names the models of a shot that other models began.
    """
    return RolloutSpec(
        settings, resolved.engine, history or resolved.identity, session.journal(),
        fps=resolved.preset.fps, hot=session.states, memory_advice=less_memory(settings.cache),
    )  # fmt: skip


def open_rollout(
    spec: RolloutSpec,
    claim: Claim,
    provenance: Provenance,
    length: Length | None = None,
    *,
    notes: Sequence[str] = (),
    remedy_prefix: str = "",
) -> HostRollout:
    """Plan the memory of a rollout and open it; nothing is made yet.

    `length` is only needed where the requested length was rounded. `notes` are shown with the
    plan; `remedy_prefix` begins the advice where the rollout does not fit.
    """
    spec = replace(
        spec, settings=reserve_codec(spec.settings, claim, spec.model.config.out_channels)
    )
    claim.reserve_modules(reads_control=spec.settings.control is not None)
    length = length or length_of(spec.settings, spec.latent_frames, spec.fps)
    planner = Planner(length, spec.planned_chunks, claim.weights, tuple(notes), remedy_prefix)
    return HostRollout(spec, claim, provenance, planner)
