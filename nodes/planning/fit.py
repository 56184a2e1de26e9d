"""Whether a rollout fits: its caches, passes and decoding, and the weights that are still to come,
against what the host can give.
"""

from __future__ import annotations

from dataclasses import replace

from ...model.vae.decoder_memory import DecoderMemory
from ...samplers.planning.memory import RolloutMemory
from ...stream.preview.messages import Plan
from ...units import byte_size
from .. import host
from ..length import Length


def plan(  # noqa: PLR0913
    length: Length,
    costs: str,
    memory: RolloutMemory,
    weights: host.Weights,
    free_bytes: int,
    less: str,
    short: str | None = None,
) -> Plan:
    """What will be made at what `costs`, and whether its `memory` can fit beside the weights.

    `less` is how it takes less memory, the end of a sentence; `short` is why what lies elsewhere
    cannot.
    """
    needed = memory.total_bytes + weights.min_bytes
    fits = needed <= free_bytes
    text = f"{length}; {weights_line(weights, memory.total_bytes, free_bytes)}, {costs}"
    if short is not None:
        text, fits = short, False
    elif not fits:
        parts = [f"{byte_size(memory.kv_bytes)} for the KV cache",
                 f"{byte_size(memory.working_bytes)} for a pass of the model"]  # fmt: skip
        parts += [f"{byte_size(weights.min_bytes)} for weights"] if weights.min_bytes else []
        text = (
            f"This rollout takes {byte_size(needed)} ({', '.join(parts)}) and "
            f"{byte_size(free_bytes)} are free; {less}."
        )
    return Plan(
        length.frames, length.seconds, length.chunks,
        memory.kv_bytes, free_bytes, fits, text,
    )  # fmt: skip


def with_decoding(
    plan: Plan, memory: RolloutMemory, decoder: DecoderMemory, weights: host.Weights
) -> Plan:
    """The plan once it is known what decodes: passes and decoding come by turns, the rest stays.

    `weights` are the model's and the VAE's.
    """
    working = max(memory.working_bytes, decoder.working_bytes)
    needed = memory.kv_bytes + decoder.state_bytes + working + weights.min_bytes
    both = decoder.state_bytes + decoder.working_bytes
    if not plan.fits:
        return replace(plan, decode_bytes=both)
    text = f"{plan.text.removesuffix('.')}; decoding {byte_size(both)}."
    fits = needed <= plan.free_bytes
    if not fits:
        text += (
            f" That is {byte_size(needed)} at once and {byte_size(plan.free_bytes)} are free: "
            "lower width, height or chunk_frames."
        )
    return replace(plan, text=text, fits=fits, decode_bytes=both)


def weights_line(weights: host.Weights, other_bytes: int, free_bytes: int) -> str:
    """What the weights take, and what of it is counted."""
    size = f"weights {byte_size(weights.total_bytes)}"
    if not weights.counted_bytes:
        return f"{size} (in memory already, not counted again)"
    most = weights.counted_bytes - weights.min_bytes
    waiting = min(most, weights.counted_bytes + other_bytes - free_bytes)
    if waiting > 0:
        return f"{size} (counted; {byte_size(waiting)} of them wait in main memory)"
    return f"{size} (counted)"
