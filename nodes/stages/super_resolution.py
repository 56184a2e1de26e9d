"""Super-Resolution (Stream): FlashVSR, applied while the frames come."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ...errors import BadInput
from ...model.flashvsr.canvas import BLOCK_PIXELS
from ...model.flashvsr.color import CORRECTIONS
from ...model.flashvsr.passes import PassRule
from ...model.flashvsr.tiles import MIN_SIDE
from ...units import byte_size
from .. import categories, sockets
from ..frames.pictures import frames_input, to_frames
from ..frames.source import FrameSource
from ..models.flashvsr.objects import FlashVSR
from ..planning.announce import announce
from ..schema import build
from ..validation import refuses
from .sharp_frames import SharpFrames, SuperSettings

REACHES = {"11": 11, "9": 9}
MAX_SNAPSHOT_PASSES = 10_000
MAX_TILE = 4096
SEED_OF_SHOT = -1


def _tile_side(tile: int) -> int:
    """The side in whole blocks of 128 pixels; BadInput for a tile of fewer than two."""
    if tile and tile < MIN_SIDE:
        raise BadInput(f"tile is {tile}, less than two blocks of 128 pixels; set 0, or {MIN_SIDE}.")
    return tile // BLOCK_PIXELS * BLOCK_PIXELS


@refuses(_tile_side)
class SuperResolution(io.ComfyNode):
    """FRAMES and FLASHVSR to larger FRAMES."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeSuperResolution",
            display_name="Super-Resolution (Stream)",
            category=categories.FRAMES,
            description="Enlarges a video with FlashVSR while the frames come, with constant "
            "memory. The first 21 frames come when 25 have arrived, then 8 at a time.",
            search_aliases=["flashvsr", "upscale video", "enlarge", "restore", "vsr", "hires"],
            inputs=_inputs(),
            outputs=[sockets.Frames.Output(display_name="frames")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(  # noqa: PLR0913
        cls, frames: Tensor | FrameSource, flashvsr: FlashVSR, scale: float, seed: int,
        colors: str, density: float, reach: str, snapshot_passes: int = 0,
        tile: int = 0,
    ) -> io.NodeOutput:  # fmt: skip
        """Wrap the frames; passes run when an output asks for their frames."""
        source = to_frames(frames)
        rule = PassRule(density, REACHES[reach])
        settings = SuperSettings(
            scale, None if seed == SEED_OF_SHOT else seed, rule, CORRECTIONS[colors],
            cls.hidden.unique_id, snapshot_passes, _tile_side(tile),
        )  # fmt: skip
        sharp = SharpFrames(source, flashvsr, settings)
        announce(
            cls.hidden.unique_id,
            sharp.plan,
            from_model=f"{source.width}x{source.height} becomes {sharp.width}x{sharp.height}; "
            f"{byte_size(sharp.memory.state_bytes)} stay between passes. "
            f"{_describe_seed(source, seed)} {sharp.time_text}",
            plan_only=source.plan_only,
        )
        return io.NodeOutput(sharp)


def _inputs() -> list[io.Input]:
    return [
        frames_input("frames", "From VAE Decode (Stream) or Video to Frames (Stream)."),
        sockets.FlashVSR.Input("flashvsr", tooltip="From Load FlashVSR (Stream)."),
        io.Float.Input(
            "scale",
            default=4.0,
            min=1.0,
            max=8.0,
            step=0.25,
            tooltip="Factor for width and height (no unit, 1 to 8). FlashVSR was trained for 4.",
        ),
        *_look_inputs(),
        *_reading_inputs(),
        *_memory_inputs(),
    ]


def _look_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "seed",
            default=SEED_OF_SHOT,
            min=SEED_OF_SHOT,
            max=2**63 - 1,
            tooltip=f"Number of the noise, 0 to {2**63 - 1:,}. Another one gives other fine "
            "detail. -1: the shot's seed, also after a fork with another one; 0 for a video file "
            "or pictures.",
            control_after_generate=io.ControlAfterGenerate.fixed,
            advanced=True,
        ),
        io.Combo.Input(
            "colors",
            options=[*CORRECTIONS],
            default="adain",
            tooltip="How colours follow the small frames. `adain`: mean and contrast of each "
            "frame. `wavelet`: all that is coarse. `none`: as the model made them.",
            advanced=True,
        ),
    ]


def _reading_inputs() -> list[io.Input]:
    return [
        io.Float.Input(
            "density",
            default=2.0,
            min=0.5,
            max=4.0,
            step=0.25,
            tooltip="How much of the near past is read (no unit, 0.5 to 4). The authors recommend "
            "2, or 1.5 for speed.",
            advanced=True,
        ),
        io.Combo.Input(
            "reach",
            options=[*REACHES],
            default="11",
            tooltip="Side of the square that is read around each place, in blocks of 128 pixels. "
            "The authors recommend 11, or 9 for sharper detail.",
            advanced=True,
        ),
    ]


def _memory_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "snapshot_passes",
            display_name="save state every N passes",
            default=0,
            min=0,
            max=MAX_SNAPSHOT_PASSES,
            optional=True,
            tooltip="Saves the state to disk after every N passes of 8 frames, 0 to "
            f"{MAX_SNAPSHOT_PASSES:,} (0: never); only the newest copy stays. A cancelled "
            "shot then goes on from it, where otherwise up to 95 passes run again.",
            advanced=True,
        ),
        io.Int.Input(
            "tile",
            default=0,
            min=0,
            max=MAX_TILE,
            step=BLOCK_PIXELS,
            optional=True,
            tooltip="Side of the tiles to work in, in pixels of the large picture, 0 to "
            f"{MAX_TILE:,}. 0: the whole picture, or smaller tiles where memory is short. Tiles "
            "overlap by 128 pixels or more; the middle 64 or more fade.",
            advanced=True,
        ),
    ]


def _describe_seed(source: FrameSource, seed: int) -> str:
    """Whose seed the noise has."""
    if seed != SEED_OF_SHOT:
        return f"Noise of seed {seed}."
    first = source.seed_of(0)
    return "Noise of seed 0." if first is None else f"Noise of the shot's seed, {first}."
