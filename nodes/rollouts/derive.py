"""Rollouts that nodes make from other rollouts, and places in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...errors import BadInput
from ...model.vae.latent_format import frame_count
from ...samplers.settings import RolloutSettings
from ..length import latent_frame_at
from ..planning.announce import announce
from ..runtime.host_rollout import HostRollout, open_rollout
from ..runtime.resolved_model import denoiser


def derive_rollout(
    source: HostRollout,
    settings: RolloutSettings,
    node_id: str | None,
    *,
    cut: int | None = None,
    warnings: Sequence[str] = (),
) -> HostRollout:
    """Open a rollout of the source's model with other settings, and show its plan.

    The new rollout has memory and live controls of its own. `cut` is the number of chunks that it
    keeps. `warnings` are shown with the plan.
    """
    engine = denoiser(source.claim.connected_model)
    spec = replace(source.spec, settings=settings, model=engine, cut=cut)
    rollout = open_rollout(spec, engine.host, replace(source.provenance, node_id=node_id))
    announce_rollout(rollout, warnings)
    return rollout


def announce_rollout(rollout: HostRollout, warnings: Sequence[str] = ()) -> None:
    """Show the plan at the rollout's node; BadInput where the rollout does not fit."""
    provenance = rollout.provenance
    announce(
        provenance.node_id, rollout.plan, warnings,
        from_model=provenance.from_model, plan_only=rollout.plan_only,
    )  # fmt: skip


def chunk_near(rollout: HostRollout, seconds: float) -> int:
    """Return the chunk that begins nearest to a time; a negative time is the end."""
    end_s = None if rollout.frames is None else rollout.frames / rollout.fps
    if seconds < 0:
        if rollout.spec.planned_chunks is None:
            raise BadInput(
                "The rollout has no end (its length is 0); set `at` to a time in seconds."
            )
        return rollout.spec.planned_chunks
    if end_s is not None and seconds > end_s:
        raise BadInput(
            f"at is {seconds:g} s and the rollout ends at {end_s:g} s; set an earlier time, or -1 "
            "for its end."
        )
    return rollout.spec.chain.chunk_at(latent_frame_at(seconds, rollout.fps))


def first_frame(rollout: HostRollout, chunk: int) -> int:
    """Return the first latent frame of a chunk, which may be the chunk after the last one."""
    if chunk == 0:
        return 0
    before = rollout.span(chunk - 1)
    return before.first + before.count


def time_of(rollout: HostRollout, latent_frame: int) -> float:
    """Return the time in seconds at which a latent frame begins in the video."""
    return frame_count(latent_frame) / rollout.fps if latent_frame else 0.0
