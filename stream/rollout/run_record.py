"""The record of a rollout in the journal, as one run extends it."""

from __future__ import annotations

import logging

import torch

from ...errors import LongtakeError
from ...samplers.compilation import is_compiled
from ...samplers.denoiser import Denoiser
from ...samplers.loop import Chunk
from ..journal.chain import Chain
from ..journal.records import SUFFIX, RecordWriter, is_lost
from ..timecode import frame_spans
from .spec import RolloutSpec

logger = logging.getLogger("longtake")


def chunk_facts(chunk: Chunk, model: Denoiser) -> dict[str, str]:
    """What the journal says of a chunk beside its latents.

    `recalled` is only there where frames were, `compiled` only where compiled code made the chunk.
    """
    facts = {
        "index": str(chunk.index),
        "prompt": chunk.prompt,
        "dtype": str(model.dtype),
        "device": str(model.device),
        "torch": torch.__version__,
    }
    if is_compiled(model):
        facts["compiled"] = "yes"
    return {**facts, "recalled": frame_spans(chunk.recalled)} if chunk.recalled else facts


def chunk_tensors(chunk: Chunk) -> dict[str, torch.Tensor]:
    """What the journal keeps of a chunk: its latents, and those of later frames in progress."""
    in_flight = {f"in_flight.{i}": part for i, part in enumerate(chunk.in_flight)}
    return {"latents": chunk.latents, **in_flight}


class RunRecord:
    """Writes the records of the chains that a run of `spec` follows."""

    def __init__(self, spec: RolloutSpec) -> None:
        self._spec = spec
        self._writer: RecordWriter | None = None

    def note(self, chain: Chain, index: int) -> None:
        """Extend the record to chunk `index`; an edit, which has its own chain, begins another."""
        spec = self._spec
        if self._writer is None or self._writer.chain is not chain:
            self._writer = RecordWriter(
                spec.journal, chain, channels=spec.model.config.out_channels, fps=spec.fps,
                lock=spec.id,
            )  # fmt: skip
        self._writer.note(index)

    def part(self) -> None:
        """Begin another record with the next chunk: an edit has made the rollout another one."""
        self._writer = None

    def follow(self, chain: Chain, index: int) -> None:
        """Go on in the same record with a chain that only the camera's drive changed.

        The chains part at chunk `index`. A chunk from there that was thrown away still belongs to
        the record.
        """
        if self._writer is not None:
            self._writer.follow(chain, index)

    def restore(self, chain: Chain, last: int) -> None:
        """Write a lost or damaged record again after a run that made no chunk, or share it."""
        journal = self._spec.journal
        if self._writer is not None:
            return
        if not is_lost(journal, chain.id):
            journal.files.note_read(f"{chain.id}{SUFFIX}")
            return
        try:
            with journal.lock(self._spec.id):
                self.note(chain, last)
        except LongtakeError as error:  # a read-only disk, or another process makes the shot
            logger.warning("The record of rollout %s is not written again. %s", chain.id, error)
