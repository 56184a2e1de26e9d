"""The pictures of a rollout in the host: the VAE is claimed, every chunk is announced and timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import cached_property, partial
from typing import Any

from ...attention.sparse.stats import SparseStats
from ...model.vae.latent_format import frame_count, latent_frame_count
from ...samplers.feature_caching import Evaluations
from ...samplers.planning.rules import name_rules
from ...stream.latency import in_words
from ...stream.lazy.frame_chunk import FrameChunk
from ...stream.lazy.side_thread import SideThread
from ...stream.metrics import Meter, Report
from ...stream.preview.album import Album
from ...stream.preview.messages import Plan, TakeStats
from ...stream.rollout.frame_stream import FrameStream
from ...stream.rollout.run import Run
from ...stream.work_meter import WorkMeter
from .. import host
from ..models.streaming_vae import StreamingVAE, made_together
from ..planning.decoding import plan_apart
from ..planning.estimate import Estimate
from ..runtime.decoding_threads import decoding_shares
from ..runtime.host_rollout import HostRollout
from ..runtime.report import run_report, with_device
from .decoder import HostDecoder
from .vae_check import VAECheck

CHUNK_EVENT = "longtake.chunk"


class HostFrames(FrameStream):
    """The pictures of a rollout; announces and times every chunk."""

    rollout: HostRollout
    vae: StreamingVAE
    album: Album
    estimate: Estimate
    node_id: str | None = None
    meter: Meter | None = None
    evaluations: Evaluations = Evaluations()
    work: WorkMeter | None = None
    vae_check: VAECheck | None = None
    _measured_run: Run | None = None

    @property
    def plan(self) -> Plan:
        """The plan of the rollout, decoding included."""
        return self.estimate.plan

    @property
    def resume_at_s(self) -> float | None:
        """The time in the video at which the next run resumes, in seconds."""
        return self.rollout.spec.resume_at_s

    def content_key(self, index: int) -> str | None:
        """The address of the latents of chunk `index`, and how the VAE decodes them."""
        if self.chunk_count is not None and index >= self.chunk_count:
            return None
        return f"{self.rollout.run.state.chain.key(index)} {self._decoding}"

    def chunk_of(self, frame: int) -> int:
        """The number of the chunk with picture number `frame`, which is in the shot."""
        return self.rollout.spec.chain.chunk_with(latent_frame_count(frame + 1) - 1)

    def seed_of(self, frame: int) -> int:
        """The seed in force at picture number `frame`, live edits included."""
        latent_frame = latent_frame_count(frame + 1) - 1
        return self.rollout.run.state.settings.seed_at(latent_frame)

    def hold_edits(self, first_chunk: int) -> None:
        """Let live edits wait until this chunk."""
        self.controls.edit_queue.hold(first_chunk)

    def planned_key(self, index: int) -> str:
        """What `content_key` gives where nothing changes the rollout while it runs."""
        return f"{self.rollout.spec.key(index)} {self._decoding}"

    @cached_property
    def _decoding(self) -> str:
        """The VAE's fingerprint, and the side of its tiles, which change the pictures slightly."""
        weights, side = self.vae.weights_name, self.vae.tile_side
        return f"{weights} in tiles of {side}" if side else weights

    def get_models(self) -> list[Any]:
        """Return the models that the host keeps loaded while the prompt runs."""
        return [*self.rollout.claim.models, self.vae.patcher]

    def stats(self) -> TakeStats:
        """Measurements for the status strip of the player."""
        rollout, meter, resumed = self.rollout, self.meter or Meter(), self.rollout.resumed_from
        sparse = rollout.run.sparse or SparseStats()
        newest = rollout.span(max(0, rollout.run.delivered - 1)).first
        now = rollout.run.state.settings.at(newest)
        return TakeStats(
            first_frame_s=meter.first_frame_s,
            frames_per_s=meter.frames_per_s,
            eta_s=meter.eta_s(self.frame_total) if self.frame_total else None,
            chunk_p95_s=meter.chunk_interval_p95_s,
            **asdict(rollout.run.latency.figures),
            generator_factor=self.work and self.work.factor,
            kv_bytes=rollout.kv_bytes,
            kv_bytes_planned=rollout.kv_bytes_planned,
            drift=rollout.run.drift.warning,
            resumed_from_s=frame_count(rollout.span(resumed).first) / self.fps if resumed else None,
            paused_s=self.controls.paused_s,
            kv_on_host=rollout.kv_on_host,
            attention_density=sparse.density,
            ann_recall=sparse.recall,
            dense_fallbacks=rollout.run.sparse and sparse.dense_fallbacks,
            memory_rules=name_rules(rollout.settings),
            live_dropped=rollout.run.receiving.dropped,
            guidance=rollout.spec.strength_of(now.guidance),
            lora=now.lora_factor,
        )

    def count_file(self, written_bytes: Callable[[], int]) -> None:
        """Count a file toward the disk limit of an endless shot."""
        self.rollout.run.disk.files.append(written_bytes)

    def report(self, output_files: list[str]) -> Report:
        """Report the run so far."""
        known = run_report(
            self.rollout, self.meter or Meter(), fps=self.fps, size=(self.width, self.height),
            evaluations=self.evaluations,
        )  # fmt: skip
        factor = self.work and self.work.factor
        complete = replace(known, output_files=output_files, generator_factor=factor)
        return with_device(complete, self.estimate.apart)

    def _open_side(self, decoder: HostDecoder) -> SideThread | None:
        """Decode while the next chunks are made, on another device or for a small model."""
        shares = decoding_shares(self.rollout, self.vae.patcher.load_device)
        if shares is None:
            return None
        decoder.leave_claim()
        return SideThread(shares, host.set_interrupt)

    def prepare(self, decoder: HostDecoder) -> None:
        decoder.prepare()

    def _decode(self, first: int) -> Iterator[FrameChunk]:
        run, start = self.rollout.run, self.rollout.span(first).first
        meter = self.meter if run is self._measured_run else None
        if meter is None or start >= meter.latent_frames:
            self._measured_run = run
            yield from self._measured(first, start)
        else:  # a reader that fell behind the others gets again what they have had
            yield from super()._decode(first)

    def _measured(self, first: int, start: int) -> Iterator[FrameChunk]:
        """The chunks from chunk `first` on, which begins at latent frame `start`, as made now."""
        self.meter = Meter(clock=self.controls.clock)
        if first:
            self.meter.begin_after(frames=frame_count(start), latent_frames=start)
        self.evaluations = Evaluations()
        self.work = WorkMeter(self.fps, self.controls.work_clock)
        chunks, frames = self.chunk_count, self.frame_total
        check = self.vae_check
        for chunk in super()._decode(first):
            self.meter.chunk_done(
                frames=len(chunk.frames), latent_frames=len(chunk.latents.latents)
            )
            self.rollout.run.latency.show(chunk.index, len(chunk.frames), chunk.prompt)
            self.evaluations += chunk.latents.evaluations
            if chunk.latents.model_evals:  # else it is from disk
                self.work.end(len(chunk.frames))
            news = {
                "chunk": chunk.index,
                "chunks": chunks,
                "frames": chunk.first_frame + len(chunk.frames),
                "first_frame_s": self.meter.first_frame_s,
                "frames_per_s": self.meter.frames_per_s,
                "eta_s": None if frames is None else self.meter.eta_s(frames),
                "resumed_from_chunk": self.rollout.resumed_from,
                "from_disk": not chunk.latents.model_evals,
                "latency": in_words(self.meter.first_frame_s, self.rollout.run.latency.figures),
            }
            host.emit(CHUNK_EVENT, news)
            if check and chunk.index == 0 and not self._of_one_make:
                check.keep(chunk)
            if check and (chunk.index == 1 or chunk.index + 1 == self.chunk_count):
                check.judge()
            yield chunk
            self.work.begin()  # outputs and stages have worked until now
        if check:
            check.judge()  # of a shot that was stopped in its first chunk

    @property
    def _of_one_make(self) -> bool:
        """Whether the demo's own files make every frame, so that there is nothing to judge."""
        known = self.rollout.settings.known_frames.frames
        return not known and made_together(self.vae, self.rollout.claim.model)


def open_frames(
    rollout: HostRollout, vae: StreamingVAE, fps: float, node_id: str | None = None
) -> HostFrames:
    """Open the frames of `rollout`, decoded by `vae` for the node `node_id`."""
    decoder = partial(HostDecoder, vae, rollout.claim, rollout.largest_latents)
    estimate = _estimate(rollout, vae)  # before the stream, which begins the run
    if estimate.is_tight and rollout.drop_key_copies():
        estimate = _estimate(rollout, vae)
    frames = HostFrames(rollout, decoder, fps)
    frames.vae, frames.album = vae, Album()
    frames.estimate, frames.node_id = estimate, node_id
    frames.vae_check = VAECheck(vae, node_id)
    return frames


def _estimate(rollout: HostRollout, vae: StreamingVAE) -> Estimate:
    """What the rollout takes with its decoding."""
    decoder = vae.decoder_memory(*rollout.largest_latents)
    device, own = vae.patcher.load_device, host.weights(vae.patcher)
    if not host.same_device(rollout.model.device, device):
        apart = plan_apart(device, decoder, own, rollout.footprint)
        return replace(rollout.estimate, apart=apart)
    weights = rollout.estimate.weights + own
    other = decoder.state_bytes + decoder.working_bytes + weights.counted_bytes
    memory = rollout.footprint.memory_beside(other, rollout.estimate.free_bytes)
    return rollout.estimate.with_decoder(memory, decoder, weights)
