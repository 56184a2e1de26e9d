"""Rollouts that nodes make of rollouts, and what is said of every rollout before it runs."""

from __future__ import annotations

from collections.abc import Sequence

from ...attention.temp_cache.policy import TempCache
from ...errors import BadInput
from ...model.vae.latent_format import frame_count
from ...samplers.advice import less_memory
from ...samplers.settings import RolloutSettings
from .. import host
from ..attention.describe import describe_temp_cache
from ..length import Length, latent_frame_at
from ..planning import costs, fit
from ..runtime.host_rollout import HostRollout, denoiser, over_journal


def derived(
    source: HostRollout, settings: RolloutSettings, node_id: str | None, *, cut: int | None = None
) -> HostRollout:
    """Another rollout of the source's model, with the memory and the controls of its own."""
    rollout = over_journal(
        denoiser(source.claim.wired), settings, source.chain.makers, source.prompter,
        source.guided, plan_only=source.plan_only, cut=cut,
    )  # fmt: skip
    rollout.session_only, rollout.node_id = source.session_only, node_id
    rollout.from_model = source.from_model
    rollout.snapshot_chunks, rollout.resume = source.snapshot_chunks, source.resume
    return rollout


def say_plan(
    rollout: HostRollout,
    length: Length,
    choice: str = "",
    problems: Sequence[str] = (),
    help_begins: str = "",
) -> None:
    """Keep the plan with the rollout and say it; refuse what cannot fit, unless only planning.

    `choice` is a further sentence: what was chosen in view of the plan. `problems` are said too.
    `help_begins` what helps where it does not fit.
    """
    free, weights = host.usable_memory_bytes(rollout.model.device), rollout.weights
    said = costs.cost_line(rollout.settings, rollout.model) + choice
    if isinstance(rollout.settings.cache, TempCache):
        said += f" {describe_temp_cache(rollout.settings.cache)}"
    short = costs.shortage_elsewhere(rollout.settings, rollout.model)
    memory = rollout.memory_beside(weights.counted_bytes, free)
    less = help_begins + less_memory(rollout.settings.cache)
    rollout.plan = fit.plan(length, said, memory, weights, free, less, short)
    if not rollout.plan.fits and not rollout.plan_only:
        raise BadInput(rollout.plan.text)
    text = f"Plan: {rollout.plan.text}" if rollout.plan_only else rollout.plan.text
    host.show_status(rollout.node_id, f"{text} {rollout.from_model}".rstrip(), *problems)


def chunk_near(rollout: HostRollout, seconds: float, name: str) -> int:
    """The chunk that begins nearest to a time of the rollout's; below 0 is its end."""
    end_s = None if rollout.frames is None else rollout.frames / rollout.fps
    if seconds < 0:
        if rollout.planned_chunks is None:
            raise BadInput(f"The rollout has no end (its length is 0); give {name} in seconds.")
        return rollout.planned_chunks
    if end_s is not None and seconds > end_s:
        raise BadInput(
            f"{name} is {seconds:g} s and the rollout ends at {end_s:g} s; give an earlier time, "
            "or -1 for its end."
        )
    return rollout.chain.chunk_at(latent_frame_at(seconds, rollout.fps))


def first_frame(rollout: HostRollout, chunk: int) -> int:
    """The first latent frame of a chunk, which may be the one after the last."""
    if chunk == 0:
        return 0
    before = rollout.span(chunk - 1)
    return before.first + before.count


def time_of(rollout: HostRollout, latent_frame: int) -> float:
    """When in the video a latent frame begins, in seconds."""
    return frame_count(latent_frame) / rollout.fps if latent_frame else 0.0
