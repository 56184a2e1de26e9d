"""Scenery that returns after the camera turned round: how well a memory shows it again.

A true clip pans away for some latent frames, turns, and comes back for some. The next chunk must
show columns that left the picture twice as long ago as the camera has been coming back. Half-way
back, the columns left as many latent frames ago as the camera went away. The sampling loop makes
all commits, and then one chunk or the whole way back.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...attention.cache.policy import CachePolicy
from ...attention.recall.cache import RecallCache
from ...attention.snapshot import Snapshot
from ...model.config import FRAMES_PER_LATENT
from ...model.preset import DEMO
from ...model.vae.latent_format import frame_count
from ...samplers.denoiser import local_denoiser
from ...samplers.history.plan import bytes_of, cache_plans
from ...samplers.history.recall import FrameRecall
from ...samplers.loop import Chunk, Loop
from ..world.attributes import caption, random_values
from ..world.clips import latent_start
from ..world.dataset import encode_shots
from ..world.renderer import render
from ..world.scene import Shot, scene
from .kit import Kit, Recipe, decode, sample, settings_of
from .measures import HELD_OUT_SEED, as_chunks, band_agreement, entering_agreement

CHUNK = DEMO.chunk_frames
TRUTH = "decoded truth"
TURNED = 4  # latent frames after the turn from which pictures are compared
CAMERA_OFF, OFF = 12, ", camera set right"

Prompts = Sequence[tuple[int, str]]
Sample = Callable[[Kit, Recipe, Prompts, int, Sequence[Chunk]], Iterator[Chunk]]
"""Makes the chunks after a history, as `kit.sample` does."""


@dataclass(frozen=True, slots=True)
class CameraTurn:
    """The camera goes away for `away` latent frames and comes back for `back`."""

    away: int
    back: int

    @property
    def history(self) -> int:
        """Latent frames before the measured chunk, in whole chunks."""
        return round((self.away + self.back) / CHUNK) * CHUNK

    def __str__(self) -> str:
        return f"{self.away} away, {self.back} back"


def half_way(away: int) -> CameraTurn:
    """Return the turn in which the camera comes back half of the way.

    The entering columns left the picture as long ago as the camera's way to the turn took.
    """
    return CameraTurn(away, away // 2)


def at_a_chunk(turn: CameraTurn) -> CameraTurn:
    """The turn, with both ways shortened to whole chunks.

    The loop turns its camera where a prompt takes effect, at the start of a chunk. A world that
    turns within a chunk would be up to four latent frames' way beside the loop's camera.
    """
    return CameraTurn(*(frames // CHUNK * CHUNK for frames in (turn.away, turn.back)))


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip whose last chunk is to be generated again.

    `latents` (f, c, h, w). `truth` (3, H, W): the true last picture. `away` and `back`: captions
    before and after latent frame `turn`.
    """

    latents: Tensor
    truth: Tensor
    away: str
    back: str
    turn: int

    @property
    def prompts(self) -> list[tuple[int, str]]:
        """Both captions, each with the latent frame from which it holds."""
        return [(0, self.away), (self.turn, self.back)]


@dataclass(frozen=True, slots=True)
class Memory:
    """What a rollout holds of its past, and how it is made: by `sample_shuffled`, say."""

    cache: CachePolicy
    sample: Sample = sample


def turning_shot(turn: CameraTurn, seed: int) -> tuple[Shot, str, str]:
    """Script a clip whose camera goes left, then right, with its two captions."""
    rng = random.Random(HELD_OUT_SEED + 980_000 + seed)
    away = {**random_values(rng), "pan": "left", "weather": "clear"}
    back = {**away, "pan": "right"}
    shot = Shot(((0, away), (latent_start(turn.away), back)), rng.randrange(2**31))
    return shot, caption(away, rng), caption(back, rng)


def there_and_back(kit: Kit, turn: CameraTurn, seed: int) -> Clip:
    """Make a clip whose camera goes left, then right, and turns at the start of a chunk."""
    turn = at_a_chunk(turn)
    shot, away, back = turning_shot(turn, seed)
    frames = turn.history + CHUNK
    truth = render(scene([shot], frame_count(frames)), DEMO.height, DEMO.width)[0, -1]
    latents = encode_shots(kit.vae, [shot], frames, DEMO.width)[0].float()
    return Clip(latents, truth, away, back, turn.away)


@torch.inference_mode()
def entering_figures(
    kit: Kit, seed: int, *, turn: CameraTurn, memories: Mapping[str, Memory], recipe: Recipe
) -> dict[str, float]:
    """Agreement of what enters in one chunk after a true history, by memory.

    TRUTH is what the VAE alone reaches.
    """
    clip = there_and_back(kit, turn, seed)
    chunks = as_chunks(clip.latents)
    lasts: dict[str, Sequence[Chunk]] = {TRUTH: chunks[-1:]}
    for name, memory in memories.items():
        own = replace(recipe, length=len(clip.latents), cache=memory.cache)
        lasts[name] = [*memory.sample(kit, own, clip.prompts, seed, chunks[:-1])]
    return {
        name: entering_agreement(decode(kit, [*chunks[-3:-1], *last])[-1], clip.truth)
        for name, last in lasts.items()
    }


@torch.inference_mode()
def whole_way_figures(
    kit: Kit, seed: int, *, turn: CameraTurn, memories: Mapping[str, Memory], recipe: Recipe
) -> dict[str, float]:
    """Agreement by memory over the way back, which the model makes itself after a true history.

    It is the mean over latent frames from the end of the turn on. Here a wrong column stays in the
    history, and the camera may err too: figures `OFF` let the picture be shifted by CAMERA_OFF
    pixels and so judge the scenery alone.
    """
    turn = at_a_chunk(turn)
    clip = there_and_back(kit, turn, seed)
    chunks, start = as_chunks(clip.latents), turn.away // CHUNK
    ways: dict[str, Sequence[Chunk]] = {TRUTH: chunks[start:]}
    for name, memory in memories.items():
        own = replace(recipe, length=len(clip.latents), cache=memory.cache)
        ways[name] = [*memory.sample(kit, own, clip.prompts, seed, chunks[:start])]
    pictures = _way_back(turn, seed, len(clip.latents))
    figures = {}
    for name, way in ways.items():
        shown = decode(kit, [*chunks[start - 2 : start], *way])[-len(pictures) :]
        for end, reach in (("", 3), (OFF, CAMERA_OFF)):
            figures[f"{name}{end}"] = _mean_agreement(shown, pictures, reach)
    return figures


def _mean_agreement(shown: Tensor, pictures: Tensor, reach: int) -> float:
    """The mean agreement of one frame of each latent frame; both are (t, 3, H, W)."""
    every = slice(FRAMES_PER_LATENT - 1, None, FRAMES_PER_LATENT)
    pairs = [*zip(shown[every], pictures[every], strict=True)]
    return sum(band_agreement(*pair, reach=reach) for pair in pairs) / len(pairs)


def _way_back(turn: CameraTurn, seed: int, length: int) -> Tensor:
    """The rendered frames (t, 3, H, W) of a clip of `length` from the end of the turn on."""
    shot, *_ = turning_shot(turn, seed)
    first, stop = frame_count(turn.away) + FRAMES_PER_LATENT * TURNED, frame_count(length)
    return render(scene([shot], stop).frames(first, stop), DEMO.height, DEMO.width)[0]


def sample_shuffled(
    kit: Kit, recipe: Recipe, prompts: Prompts, seed: int, history: Sequence[Chunk] = ()
) -> Iterator[Chunk]:
    """Yield chunks as `kit.sample` does, whose memory recalls the wrong frames."""
    model = local_denoiser(kit.dit, kit.config, kit.layers)
    loop = Loop(settings_of(kit, recipe, prompts, seed), model)
    loop.branches.claim()  # which opens the history
    past = loop.branches.history
    [cache] = [cache for cache in past.caches[:1] if isinstance(cache, RecallCache)]
    past.recall = ShuffledRecall(past.recall, cache, seed)
    return loop.chunks(history)


class ShuffledRecall:
    """Fetches other archived frames, at random, in place of those that a recall chooses."""

    def __init__(self, recall: FrameRecall, cache: RecallCache, seed: int) -> None:
        self._recall, self._cache, self._seed = recall, cache, seed

    @property
    def frames(self) -> tuple[int, ...]:
        """The latent frames fetched for the chunk in work, rising."""
        return tuple(self._cache.recalled)

    def note(self, frames: Sequence[int]) -> None:
        """Take the next latent `frames` as committed."""
        self._recall.note(frames)

    def fetch(self, frames: Sequence[int]) -> bool:
        """Fetch as many frames that the recall would not; they depend on seed and chunk alone."""
        self._recall.fetch(frames)
        right = {*self._recall.frames}
        others = sorted({*self._cache.archive.frames} - right)
        count = min(len(right), len(others))
        rng = random.Random(self._seed + HELD_OUT_SEED * frames[0])
        self._cache.recall(rng.sample(others, count))
        return True

    def snapshot(self) -> Snapshot:
        """What the recall's choices depend on."""
        return self._recall.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot."""
        self._recall.restore(snapshot)


def memory_megabytes(kit: Kit, recipe: Recipe) -> dict[str, float]:
    """Megabytes that a rollout's history holds at its end: on the device, and in main memory."""
    settings = settings_of(kit, recipe, [(0, "")], 0)
    plans = cache_plans(settings, kit.config, torch.float32)
    archived = sum(plan.planned_offloaded(recipe.length) for plan in plans)
    return {
        "resident, MB": bytes_of(plans, recipe.length) / 1e6, "archived, MB": archived / 1e6
    }  # fmt: skip
