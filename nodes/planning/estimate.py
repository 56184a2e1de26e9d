"""Whether a rollout fits: KV caches, passes, decoding and weights against the host's memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...attention.temp_cache.policy import TempCache
from ...model.vae.decoder_memory import DecoderMemory
from ...samplers.planning.memory import RolloutMemory
from ...stream.preview.messages import Plan
from ...units import byte_size
from .. import host
from ..advice import less_memory
from ..attention.describe import describe_temp_cache
from ..length import Length
from .costs import (
    describe_cache,
    describe_guidance_cost,
    describe_lean_keys,
    offload_shortage,
)
from .decoding import DecodingApart
from .footprint import RolloutFootprint

TURNS = (
    "The generator and {names} take turns: what one of them keeps waits in main memory while the "
    "other works."
)


@dataclass(frozen=True, slots=True)
class Stage:
    """What a further model takes that works on the decoded frames.

    `takes_turns`: on a card, what one model keeps may wait in main memory for a pass of the other.
    `remedy` says how it takes less.
    """

    name: str
    state_bytes: int
    working_bytes: int
    weights: host.Weights
    takes_turns: bool
    remedy: str

    @property
    def own_bytes(self) -> int:
        """What it takes beside its weights."""
        return self.state_bytes + self.working_bytes

    @property
    def needed_bytes(self) -> int:
        """The least that one of its passes needs."""
        return self.own_bytes + self.weights.min_bytes


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a rollout takes, known before it runs.

    `chunks` is how many the shot finishes, None without an end. `weights` are those of the model,
    and of the VAE once `decoder` is known. `cache` describes the KV cache; `notes` are further
    sentences. `remedy` says how to take less memory and
    `offload_shortage` why the offloaded part of the KV cache does not fit, if it does not. A
    decoder on another device is `apart`, and takes nothing of this one.
    """

    length: Length
    chunks: int | None
    memory: RolloutMemory
    weights: host.Weights
    free_bytes: int
    cache: str
    remedy: str
    notes: tuple[str, ...] = ()
    offload_shortage: str | None = None
    decoder: DecoderMemory | None = None
    stages: tuple[Stage, ...] = ()
    apart: DecodingApart | None = None

    @property
    def plan(self) -> Plan:
        """The figures and the text for users."""
        return Plan(
            self.length.frames, self.length.seconds, self.chunks,
            self.memory.kv_bytes, self.free_bytes, self.fits, self._text, self.decoding_bytes,
            None if self.apart is None else str(self.apart.device),
        )  # fmt: skip

    @property
    def fits(self) -> bool:
        """Whether all of it fits at once, on each device."""
        return self._refusal is None

    @property
    def is_tight(self) -> bool:
        """Whether it does not fit at once with all weights."""
        everything = self._peak + self._all_weights.counted_bytes
        return self.offload_shortage is None and everything > self.free_bytes

    @property
    def decoding_bytes(self) -> int | None:
        """What decoding takes, on whichever device; None while no decoder is known."""
        if self.apart is not None:
            return self.apart.decoding_bytes
        return self.decoder and self.decoder.state_bytes + self.decoder.working_bytes

    def with_decoder(
        self, memory: RolloutMemory, decoder: DecoderMemory, weights: host.Weights
    ) -> Estimate:
        """Add the decoder; `weights` are the model's and the VAE's."""
        remedy = "lower width, height or chunk_frames" if self.fits else self.remedy
        return replace(self, memory=memory, decoder=decoder, weights=weights, remedy=remedy)

    def with_stage(self, memory: RolloutMemory, stage: Stage) -> Estimate:
        """Add a further model; `memory` is planned beside it and all others."""
        remedy = stage.remedy if self.fits else self.remedy
        return replace(self, memory=memory, stages=(*self.stages, stage), remedy=remedy)

    @property
    def beside_bytes(self) -> int:
        """What all takes here that is no pass of the generator: decoding, stages, weights."""
        stages = sum(stage.own_bytes for stage in self.stages)
        decoding = 0 if self.apart is not None else self.decoding_bytes or 0
        return decoding + stages + self._all_weights.counted_bytes

    @property
    def _all_weights(self) -> host.Weights:
        return sum((stage.weights for stage in self.stages), self.weights)

    @property
    def _peak(self) -> int:
        """Bytes beside the weights. Passes and decoding take turns; what they keep adds up."""
        parts = [part for part in (self.decoder, *self.stages) if part is not None]
        working = max(self.memory.working_bytes, *(part.working_bytes for part in parts), 0)
        return self.memory.kv_bytes + sum(part.state_bytes for part in parts) + working

    @property
    def _needed(self) -> int:
        """The least that must be there at once."""
        if not self._takes_turns:
            return self._peak + self._all_weights.min_bytes
        alone = replace(self, stages=())._needed
        return max(alone, *(stage.needed_bytes for stage in self.stages))

    @property
    def _takes_turns(self) -> bool:
        return any(stage.takes_turns for stage in self.stages)

    @property
    def _stage_names(self) -> str:
        return " and ".join(stage.name for stage in self.stages)

    @property
    def _text(self) -> str:
        if self._refusal is not None:
            return self._refusal
        parts = [self.cache, describe_weights(self._all_weights, self._peak, self.free_bytes)]
        if self.apart is None and self.decoding_bytes is not None:
            parts.append(f"decoding {byte_size(self.decoding_bytes)}")
        parts += [f"{stage.name} {byte_size(stage.own_bytes)}" for stage in self.stages]
        total = byte_size(self._peak + self._all_weights.total_bytes)
        takes_turns = self._takes_turns and self.is_tight
        turns = [TURNS.format(names=self._stage_names)] if takes_turns else []
        apart = [] if self.apart is None else [f"{self.apart.summary}."]
        sentences = [f"{', '.join(parts)}.", *apart, *turns, *self.length.notes, *self.notes]
        if self.apart is not None:
            total = f"{total} and, on {self.apart.device}, {byte_size(self.apart.total_bytes)}"
        return f"{self.length.in_words(self.chunks)}. Memory {total}.\n{' '.join(sentences)}"

    @property
    def _parts(self) -> dict[str, int]:
        """What needs how many bytes, where a run does not fit."""
        for stage in self.stages if self._takes_turns else ():
            if self._needed == stage.needed_bytes:
                weights = {"for its weights": stage.weights.min_bytes}
                return {f"for {stage.name}": stage.own_bytes} | weights
        alone = replace(self, stages=()) if self._takes_turns else self
        passes = "a pass of the model" if self.decoder is None else "passes and decoding"
        if alone.stages:
            passes = f"passes, decoding and {self._stage_names}"
        return {
            "for the KV cache": self.memory.kv_bytes,
            f"for {passes}": alone._peak - self.memory.kv_bytes,
            "for weights": alone._all_weights.min_bytes,
        }

    @property
    def _refusal(self) -> str | None:
        """Say what does not fit; None where all of it does."""
        if self.offload_shortage is not None:
            return self.offload_shortage
        if self.apart is not None and not self.apart.fits:
            return self.apart.refusal
        if self._needed <= self.free_bytes:
            return None
        parts = self._parts.items()
        listed = ", ".join(f"{byte_size(count)} {what}" for what, count in parts if count)
        return (
            f"The rollout needs {byte_size(self._needed)} of memory ({listed}), but only "
            f"{byte_size(self.free_bytes)} is available; {self.remedy}."
        )


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans a rollout of that length on its model's device; `weights` are the model's.

    `chunks` is how many the shot finishes, None without an end. `notes` are shown with the plan;
    `remedy_prefix` begins the advice where it does not fit.
    """

    length: Length
    chunks: int | None
    weights: host.Weights
    notes: tuple[str, ...] = ()
    remedy_prefix: str = ""

    def estimate(self, footprint: RolloutFootprint) -> Estimate:
        """What the rollout takes."""
        weights, cache = self.weights, footprint.settings.cache
        free = host.usable_memory_bytes(footprint.model.device)
        guidance = describe_guidance_cost(footprint)
        lean = None if footprint.settings.hold_rotated else describe_lean_keys(footprint)
        return Estimate(
            self.length,
            self.chunks,
            footprint.memory_beside(weights.counted_bytes, free),
            weights,
            free,
            describe_cache(footprint),
            self.remedy_prefix + less_memory(cache),
            (
                *filter(None, (lean, guidance)),
                *self.notes,
                *([describe_temp_cache(cache)] if isinstance(cache, TempCache) else []),
            ),
            offload_shortage(footprint),
        )

    def fitting(self, footprint: RolloutFootprint) -> RolloutFootprint:
        """The footprint, without copies of keys where it does not fit with them."""
        if not footprint.copied_bytes:
            return footprint
        free = host.usable_memory_bytes(footprint.model.device)
        tight = footprint.kv_bytes > free or self.estimate(footprint).is_tight
        return footprint.lean if tight else footprint


def describe_weights(weights: host.Weights, other_bytes: int, free_bytes: int) -> str:
    """The size of the weights, and where they are if that matters for the memory in use."""
    size = f"model weights {byte_size(weights.total_bytes)}"
    if not weights.counted_bytes:
        return f"{size} (already in memory)"
    offloadable = weights.counted_bytes - weights.min_bytes
    waiting = min(offloadable, weights.counted_bytes + other_bytes - free_bytes)
    return f"{size} ({byte_size(waiting)} of it offloaded)" if waiting > 0 else size
