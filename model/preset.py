"""What a family of models was trained to run with, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import BadInput

DEMO_FOLDER = Path(__file__).parent / "demo"
FAST_NAME = "fast"  # of the folder, in that of the demo
FAST_FOLDER = DEMO_FOLDER / FAST_NAME
RANGES_NAME = "decoder_ranges.json"  # of the file in the demo's folder
RECALLED_SHARE = 3 / 7
"""The part of a window that fetches past frames: 9 of 21 latent frames were trained."""
EULER, RENOISE, UNIPC = "euler", "re-noise", "unipc 2"


@dataclass(frozen=True, slots=True)
class Preset:
    """Defaults of schedule, cache, guidance and picture; latent frames unless said otherwise.

    `steps` are even ones from the timestep `begins` on. `first_steps` are the fewest of the first
    chunk, which has no past to go by, `overlap_steps` the fewest where chunks in work overlap.
    `timesteps` is, in their place, a
    distilled model's list (1000 to 0, before the shift), `first_timesteps` another one for the
    first chunk alone; `shift_timesteps` is False where the list is final already: the model is told
    it as it is, at the noise of the nearest of 1000 shifted timesteps. `whole_timesteps`: the model
    is told whole numbers, rounded down.
    `window_frames` counts the sink and not the chunk in work, 0 stands for all of the past;
    `shared_window`: the latent frames in work have their place in it; `distant_sink`: the sink
    stays where it was in time. `aligned_frames`: the latent frames in work end a trained range of
    so many, whose bottom the sink keeps (0: the window follows the sink).
    `anchored`: denoising finds the sink beside the newest frames, and commits where it was in time.
    `sink_decay` is the share of a sink that averages what is evicted into itself (0: it stays as it
    is); `bank_frames` more in every layer are a memory bank (0: none); `drops_first_frame`: the
    model was trained on windows without the first latent frame.
    `rolling_chunks` are denoised together at rising noise (0: one after another); `wavefront`: each
    of them sees itself and the cleaner ones alone, in a window as WaveForcing counts it.
    `rebuilt`: the window is rebuilt, as if nothing had been before it, before each chunk;
    `fine_frames`: so it is, and latent frames older than these newest ones become coarse (0: none).
    `noisy_history`: trained with pasts at any noise level (Diffusion Forcing), so that pure noise
    is no past to it.
    `boundary`: the model is two, and the second takes over at timesteps below 1000 times that (0:
    it is one). `halves`: the first was trained to come from noise to the boundary, the second from
    there to clean latents.
    `reach_frames` is how far back it was trained to look, 0 as far as its window.
    `recall_share` is the part of its window that it was trained to read from frames fetched again
    by the camera's view (0: none), out of the newest `archive_frames` that left (0: out of all).
    `flat_world`: its camera moves along a painted strip, so that turns are moves sideways.
    `one_size`: pictures of another height, or much wider or narrower ones, double or smear things.
    `only_new_views`: it was trained to read such frames where they show more than the newest ones
    do, and to look no further back than these elsewhere.
    `state`: its tensors show a state of constant size beside the window (`model/delta.py`).
    `bfloat16_products`: on a CPU with instructions for bfloat16 its linear layers and its attention
    to a history multiply in it, as when it was trained, and stay within the goal of every measure
    (docs/measurements/ladder.md).
    `chunk_sizes` are all sizes of chunk that it was trained with (empty: `chunk_frames` alone).
    `first_frames` are those of a shot's first chunk, where nothing is given (0: as of the others).
    `picture_first`: its start picture is the first latent frame, finished before the first chunk
    and silent, so that a voice begins with the second picture.
    `history_scale` is where guidance away from no history begins; 1.5 is published (Song et al.,
    arXiv 2502.06764, Kinetics).
    """

    chunk_frames: int
    steps: int
    shift: float
    guidance_scale: float
    window_frames: int
    sink_frames: int
    context_noise: float
    text_len: int
    fps: float
    width: int
    height: int
    begins: float = 1000.0
    timesteps: tuple[float, ...] = ()
    first_timesteps: tuple[float, ...] = ()
    shift_timesteps: bool = True
    whole_timesteps: bool = False
    solver: str = EULER
    sink_decay: float = 0.0
    bank_frames: int = 0
    shared_window: bool = False
    distant_sink: bool = False
    anchored: bool = False
    aligned_frames: int = 0
    drops_first_frame: bool = False
    rolling_chunks: int = 0
    wavefront: bool = False
    rebuilt: bool = False
    fine_frames: int = 0
    first_steps: int = 0
    overlap_steps: int = 0
    flat_world: bool = False
    one_size: bool = False
    only_new_views: bool = False
    noisy_history: bool = False
    boundary: float = 0.0
    halves: bool = False
    reach_frames: int = 0
    recall_share: float = 0.0
    archive_frames: int = 0
    history_scale: float = 1.5
    state: bool = False
    bfloat16_products: bool = False
    chunk_sizes: tuple[int, ...] = ()
    first_frames: int = 0
    picture_first: bool = False
    note: str = ""

    @property
    def trained_chunks(self) -> tuple[int, ...]:
        """The sizes of chunk that it was trained with, in latent frames."""
        return self.chunk_sizes or (self.chunk_frames,)

    @property
    def trained_reach(self) -> int:
        """Latent frames that it was trained to look back; all of a past is that of its chunk."""
        return self.reach_frames or self.window_frames or self.chunk_frames


DEMO = Preset(
    chunk_frames=3, steps=3, shift=1.5, guidance_scale=1.0,
    window_frames=21, sink_frames=0, context_noise=0.0, text_len=24, fps=16.0, width=96, height=64,
    drops_first_frame=True, first_steps=8, overlap_steps=4, noisy_history=True, history_scale=1.2,
    reach_frames=64, recall_share=RECALLED_SHARE, archive_frames=600, flat_world=True,
    only_new_views=True, chunk_sizes=(1, 3), one_size=True,
)  # fmt: skip

DEMO_FAST = replace(
    DEMO, steps=2, first_steps=6, shift=1.25, noisy_history=False, bfloat16_products=True
)
"""Of the demo's student, which learned two steps behind clean pasts, at shift 1.5.

At 1.25 a long shot keeps its pan.
"""


def overridden(preset: Preset, **values: Any) -> Preset:
    """The preset with other values in its place; None leaves its own.

    Other steps than the family's own list are even ones. Chunks of another size are all alike.
    """
    overrides = {name: value for name, value in values.items() if value is not None}
    if overrides.get("steps", preset.steps) != preset.steps:
        overrides |= {"timesteps": (), "first_timesteps": ()}
    if overrides.get("chunk_frames", preset.chunk_frames) != preset.chunk_frames:
        overrides |= {"first_frames": 0}
    if 0 in (overrides.get("window_frames"), overrides.get("sink_frames")):
        overrides |= {"sink_decay": 0.0}
    changed = replace(preset, **overrides)
    if 0 < changed.window_frames < changed.sink_frames:
        raise BadInput(
            f"window_frames is {changed.window_frames} and its sink {changed.sink_frames} latent "
            "frames; make the window larger or the sink smaller."
        )
    return changed
