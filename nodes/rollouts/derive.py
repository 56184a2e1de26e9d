"""Make one rollout from another, and announce the plan of a rollout before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...attention.temp_cache.policy import TempCache
from ...errors import BadInput
from ...model.vae.latent_format import frame_count
from ...samplers.settings import RolloutSettings
from .. import host
from ..advice import less_memory
from ..attention.describe import describe_temp_cache
from ..length import Length, latent_frame_at
from ..planning import costs, fit
from ..runtime.host_rollout import HostRollout, denoiser, open_rollout


def derive_rollout(
    source: HostRollout, settings: RolloutSettings, node_id: str | None, *, cut: int | None = None
) -> HostRollout:
    """Return a rollout of the source's model with its own memory and controls.

    `cut` is the number of chunks that it keeps.
    """
    engine = denoiser(source.claim.wired)
    spec = replace(source.spec, settings=settings, model=engine, cut=cut)
    return open_rollout(
        spec, engine.host,
        node_id=node_id, session_only=source.session_only, from_model=source.from_model,
    )  # fmt: skip


def say_plan(
    rollout: HostRollout,
    length: Length,
    choice: str = "",
    problems: Sequence[str] = (),
    help_begins: str = "",
) -> None:
    """Store the plan in the rollout and show it; refuse a plan that does not fit, except in a dry
    run.

    `choice` is one more sentence for the plan: a setting that depends on it. `problems` are shown
    as warnings. `help_begins` starts the advice that follows when the plan does not fit.
    """
    free, weights = host.usable_memory_bytes(rollout.model.device), rollout.weights
    cost = costs.cost_line(rollout.settings, rollout.model) + choice
    if isinstance(rollout.settings.cache, TempCache):
        cost += f" {describe_temp_cache(rollout.settings.cache)}"
    short = costs.shortage_elsewhere(rollout.settings, rollout.model)
    memory = rollout.memory_beside(weights.counted_bytes, free)
    less = help_begins + less_memory(rollout.settings.cache)
    rollout.plan = fit.plan(length, cost, memory, weights, free, less, short)
    if not rollout.plan.fits and not rollout.plan_only:
        raise BadInput(rollout.plan.text)
    text = f"Plan: {rollout.plan.text}" if rollout.plan_only else rollout.plan.text
    host.say(rollout.node_id, f"{text} {rollout.from_model}".rstrip(), *problems)


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
