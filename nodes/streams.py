"""Streams inside the host: models claimed before each chunk, progress, news of every chunk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..attention.sparse_stats import SparseStats
from ..model.config import DiTConfig, config_from_shapes
from ..model.vae.latent_format import frame_count
from ..samplers.cache_plan import planned_bytes
from ..samplers.cost import histories_used
from ..samplers.denoiser import Denoiser
from ..samplers.guidance import Guidance
from ..samplers.memory import RolloutMemory, most_bytes, rollout_memory
from ..samplers.settings import RolloutSettings
from ..stream.album import Album
from ..stream.chain import Makers
from ..stream.frames import FrameChunk
from ..stream.journal import Journal
from ..stream.metrics import Meter, Report
from ..stream.rollout_stream import FrameStream, Rollout
from ..stream.run import Prompter
from ..stream.take_record import Plan, TakeStats
from . import host
from .claim import Claim
from .frame_source import FrameSource
from .host_codec import with_room
from .identity import identity
from .model_facts import facts
from .plan import check_channels, with_decoding
from .run import HostRun
from .session import session
from .streaming_vae import StreamingVAE, check_belongs

CHUNK_EVENT = "longtake.chunk"
T = TypeVar("T")


class HostRollout(Rollout):
    """A rollout of one of the host's models, made by the node `node_id`."""

    node_id: str | None = None
    session_only: str | None = None  # why its chunks are of no use after a restart, if so
    plan: Plan

    def new_run(self) -> HostRun:
        """A run that is shown in the host."""
        return HostRun(self)

    def get_models(self) -> list[Any]:
        """The host asks this of a socket's value: models to keep while the prompt runs."""
        return [self.claim.model]

    @property
    def claim(self) -> Claim:
        """How this rollout asks for its model."""
        return self.model.claim  # type: ignore[return-value]  # set by `open_rollout`

    @property
    def kv_on_host(self) -> bool:
        """Whether the KV cache waits in main memory, because of a long pause or of other models."""
        return self.claim.memory.on_host

    @property
    def kv_bytes_planned(self) -> int:
        """Bytes of the KV cache while chunks are made, at most."""
        return max(self._each(planned_bytes))

    @property
    def most_bytes(self) -> int:
        """More than KV cache and passes can take, known without rehearsing one."""
        return max(self._each(most_bytes))

    def memory_beside(self, other_bytes: int) -> RolloutMemory:
        """What is planned for; passes are rehearsed only where the memory might be short."""
        spare = self.plan.free_bytes - self.most_bytes - other_bytes
        return RolloutMemory(self.kv_bytes_planned, self.working_bytes if spare < 0 else 0)

    @property
    def largest_latents(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a whole chunk."""
        return self.span(0).count, self.settings.rows, self.settings.columns

    @cached_property
    def working_bytes(self) -> int:
        """What a pass takes beside the model's weights and the KV cache, rehearsed."""
        return max(memory.working_bytes for memory in self._each(rollout_memory))

    def _each(self, plan: Callable[[RolloutSettings, DiTConfig, torch.dtype], T]) -> list[T]:
        """A plan of each of the settings that are ever in force."""
        s, config, dtype = self.settings, self.model.config, self.model.dtype
        in_force = [s, *(s.at(change.start_frame) for change in s.guidance_changes)]
        return [plan(one, config, dtype) for one in in_force]


def denoiser(model: Any) -> Denoiser:
    """The engine's view of a MODEL; one that is no Wan text-to-video model is refused."""
    tree = host.module_tree(model)
    config = config_from_shapes(dict(tree.named_parameters()), tree.num_heads)
    check_channels(config)
    device, dtype = host.compute_place(model)
    claim = Claim(model, device)
    return Denoiser(
        claim,
        config,
        device,
        dtype,
        partial(host.cast, device=device),
        host.check_interrupted,
        claim.hold,
        claim.release,
        claim.weigh_lora if host.has_lora(model) else None,
    )


def open_rollout(
    model: Any,
    engine: Denoiser,
    settings: RolloutSettings,
    prompter: Prompter | None,
    guided: Callable[[float], Guidance],
    *,
    plan_only: bool = False,
) -> HostRollout:
    """The rollout of a MODEL, over the host's journal."""
    name, session_only = identity(model)
    rollout = over_journal(engine, settings, name, prompter, guided, plan_only=plan_only)
    rollout.session_only = session_only
    return rollout


def over_journal(  # noqa: PLR0913
    engine: Denoiser,
    settings: RolloutSettings,
    made_by: str | Makers,
    prompter: Prompter | None,
    guided: Callable[[float], Guidance],
    *,
    plan_only: bool = False,
    cut: int | None = None,
) -> HostRollout:
    """A rollout made by models of known identity, over the host's journal."""
    settings = with_room(settings, engine.claim, engine.config.out_channels)
    rollout = HostRollout(
        settings, engine, made_by, Journal(host.rollout_folder()), prompter, guided,
        fps=facts(engine.claim.model).preset.fps, scope=host.running_prompt,
        plan_only=plan_only, cut=cut, hot=session.states,
    )  # fmt: skip
    rollout.claim.beside.update(settings.known.sources)
    if engine.device.type != "cpu":  # main memory is not the host's to make room in
        rollout.claim.working_bytes = lambda: rollout.working_bytes
    return rollout


class HostDecoder:
    """A streaming decoder whose VAE is claimed together with the model that makes the chunks."""

    def __init__(self, vae: StreamingVAE, claim: Claim, latents: tuple[int, int, int]) -> None:
        self.patcher = vae.patcher
        self._decoder = vae.open_decoder()
        self._planned = vae.decoder_memory(*latents)
        self._claim = claim
        self._claims_seen = claim.count
        claim.beside.add(self)

    @property
    def overlap_frames(self) -> int:
        """Latent frames to decode again before a frame in mid-stream is exact."""
        return self._decoder.overlap_frames

    @property
    def room_bytes(self) -> int:
        """Bytes that the next chunk will allocate: features not yet kept, and work in between."""
        missing = max(0, self._planned.state_bytes - self._decoder.state_bytes)
        return missing + self._planned.working_bytes

    def feed(self, latents: Tensor) -> Tensor:
        """Decode the next latents."""
        if self._claims_seen == self._claim.count:  # from the journal: nobody has claimed for them
            host.claim([self.patcher], self.room_bytes)
        self._claims_seen = self._claim.count
        return self._decoder.feed(latents.to(self.patcher.load_device))


class HostFrames(FrameStream, FrameSource):
    """The pictures of a rollout; tells whoever watches about every chunk, and measures."""

    rollout: HostRollout
    vae: StreamingVAE
    album: Album
    meter: Meter | None = None
    model_evals: int = 0

    @cached_property
    def plan(self) -> Plan:
        """What was to be expected before the run, decoding included."""
        rollout = self.rollout
        decoder = self.vae.decoder_memory(*rollout.largest_latents)
        memory = rollout.memory_beside(decoder.state_bytes + decoder.working_bytes)
        return with_decoding(rollout.plan, memory, decoder)

    @property
    def resume_at_s(self) -> float | None:
        """Where in the video the next run goes on, in seconds."""
        return self.rollout.resume_at_s

    def get_models(self) -> list[Any]:
        """The host asks this of a socket's value: models to keep while the prompt runs."""
        return [self.rollout.claim.model, self.vae.patcher]

    def stats(self) -> TakeStats:
        """How it goes, for the strip below the player."""
        rollout, meter, resumed = self.rollout, self.meter or Meter(), self.rollout.resumed_from
        sparse = rollout.run.sparse or SparseStats()
        return TakeStats(
            first_frame_s=meter.first_frame_s,
            frames_per_s=meter.frames_per_s,
            eta_s=meter.eta_s(self.frame_total) if self.frame_total else None,
            chunk_p95_s=meter.chunk_interval_p95_s,
            kv_bytes=rollout.kv_bytes,
            kv_bytes_planned=rollout.kv_bytes_planned,
            drift=rollout.run.drift.warning,
            resumed_from_s=frame_count(rollout.span(resumed).first) / self.fps if resumed else None,
            paused_s=self.controls.paused_s,
            kv_on_host=rollout.kv_on_host,
            attention_density=sparse.density,
            ann_recall=sparse.recall,
            dense_fallbacks=rollout.run.sparse and sparse.dense_fallbacks,
        )

    def counts(self, written_bytes: Callable[[], int]) -> None:
        """To the share of the disk that a shot without an end may fill."""
        self.rollout.run.disk.files.append(written_bytes)

    def report(self, output_files: list[str]) -> Report:
        """The facts about the run so far."""
        rollout, sparse = self.rollout, self.rollout.run.sparse or SparseStats()
        known = Report(
            rollout_id=rollout.id,
            width=self.width,
            height=self.height,
            fps_target=self.fps,
            kv_bytes=rollout.kv_bytes,
            kv_bytes_planned=rollout.kv_bytes_planned,
            model_load_s=rollout.claim.load_s,
            model_evals=self.model_evals,
            attention_density=sparse.density,
            ann_recall=sparse.recall,
            dense_fallbacks=rollout.run.sparse and sparse.dense_fallbacks,
            drift=rollout.run.drift.largest,
            resumed_from_chunk=rollout.resumed_from,
            edits=[edit.told for edit in self.controls.edits if edit.applied],
            output_files=output_files,
        )
        report = (self.meter or Meter()).report(known)
        more = {
            "guidance": histories_used(rollout.settings),
            "model": facts(rollout.claim.model).assumed,
        }
        if rollout.run.settings.recached:
            frames = ", ".join(map(str, rollout.run.settings.recached))
            more["recached"] = f"at latent frame {frames}"
        return replace(report, versions={**(report.versions or {}), **more})

    def _decode(self, first: int) -> Iterator[FrameChunk]:
        controls = self.controls
        self.meter = Meter(clock=lambda: time.perf_counter() - controls.paused_s)
        self.model_evals = 0
        chunks, frames = self.chunk_count, self.frame_total
        for chunk in super()._decode(first):
            if chunk.index == 0:
                check_belongs(self.vae, chunk.latents.latents[0], chunk.frames[0])
            self.meter.chunk_done(
                frames=len(chunk.frames), latent_frames=len(chunk.latents.latents)
            )
            self.model_evals += chunk.latents.model_evals
            news = {
                "chunk": chunk.index,
                "chunks": chunks,
                "frames": chunk.first_frame + len(chunk.frames),
                "frames_total": frames,
                "first_frame_s": self.meter.first_frame_s,
                "frames_per_s": self.meter.frames_per_s,
                "eta_s": None if frames is None else self.meter.eta_s(frames),
                "resumed_from_chunk": self.rollout.resumed_from,
            }
            host.emit(CHUNK_EVENT, news)
            yield chunk


def open_frames(rollout: HostRollout, vae: StreamingVAE, fps: float) -> HostFrames:
    """The frames of `rollout` as `vae` decodes them."""
    decoder = partial(HostDecoder, vae, rollout.claim, rollout.largest_latents)
    frames = HostFrames(rollout, decoder, fps)
    frames.vae, frames.album = vae, Album()
    return frames
