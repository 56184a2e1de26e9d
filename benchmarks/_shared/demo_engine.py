"""The demo in our engine: a rollout over a journal on disk, decoded as in the product."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ...attention.cache.policy import CachePolicy, WindowSink
from ...model.arithmetic.layers import Layers
from ...model.arithmetic.packed import PackedWeights
from ...model.preset import DEMO
from ...model.vae.streaming import StreamingDecoder
from ...samplers.denoiser import Denoiser, LocalHost
from ...samplers.guidance import Guidance, cfg
from ...samplers.schedule.rows import causal_chunks
from ...samplers.settings import RolloutSettings
from ...samplers.solvers.single_step import ReNoise
from ...stream.journal.journal import Journal
from ...stream.lazy.side_thread import SideThread
from ...stream.lazy.thread_shares import pass_flops, share_threads
from ...stream.rollout.frame_stream import FrameStream
from ...stream.rollout.rollout import Rollout
from ...stream.rollout.spec import RolloutSpec
from .demo_shot import CHUNK, LADDER, DemoShot, Marks, Networks, Part, Play

WINDOW = WindowSink(DEMO.window_frames)
ONE_PASS = cfg(1.0)


def engine(networks: Networks) -> Play:
    """Our engine, with the demo's window."""
    return partial(_play, networks)


def _play(networks: Networks, shot: DemoShot, marks: Marks) -> Iterator[Part]:
    with TemporaryDirectory() as folder:
        frames = open_shot(networks, settings_of(shot), Path(folder))
        frames.rollout.run.latency = marks  # type: ignore[assignment]
        for chunk in frames.chunks:
            assert chunk.latents is not None
            yield Part(chunk.index, chunk.latents.latents, chunk.frames, chunk.prompt)


def settings_of(
    shot: DemoShot, *, cache: CachePolicy = WINDOW, guidance: Guidance = ONE_PASS
) -> RolloutSettings:
    """The settings that make the shot."""
    return RolloutSettings(
        shot.prompts, shot.rows, shot.columns, causal_chunks(LADDER, CHUNK), shot.latents,
        shot.seed, ReNoise(), guidance, cache,
    )  # fmt: skip


def open_shot(
    networks: Networks,
    settings: RolloutSettings,
    folder: Path,
    open_decoder: Callable[[], StreamingDecoder] | None = None,
    *,
    in_turn: bool = False,
) -> FrameStream:
    """The frames of a rollout whose journal lies in `folder`.

    A small model is decoded on a thread beside the one that denoises, unless `in_turn`.
    """
    layers = Layers(packed=PackedWeights())  # as the product has it
    model = Denoiser(LocalHost(networks.tree), networks.config, layers=layers)
    spec = RolloutSpec(settings, model, "bench", Journal(folder), fps=DEMO.fps)
    stream = FrameStream if in_turn else _FramesBeside
    return stream(Rollout(spec), open_decoder or partial(StreamingDecoder, networks.vae), DEMO.fps)


class _FramesBeside(FrameStream):
    """Decodes on the side wherever the product does."""

    def _open_side(self, decoder: object) -> SideThread | None:
        model = self.rollout.model
        flops = pass_flops(self.rollout.settings, model.config)
        shares = share_threads(torch.get_num_threads(), flops)
        return None if shares is None else SideThread(shares, lambda raised: None)
