"""Score Guidance: steer the video toward a target by the gradient of a score."""

from __future__ import annotations

import re
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...characters import excerpt, list_entries
from ...errors import BadInput
from ...kinds import kind_of
from ...model.vae.taehv import taehv_decoder
from ...samplers import guidance as g
from ...samplers.guidance.scores import (
    Box,
    Colour,
    Motion,
    Palette,
    Pictures,
    Region,
    check_box,
    check_colours,
)
from .. import categories, sockets
from ..frames.pictures import USUAL_FPS, PictureFrames
from ..models.demo_objects import DemoVAE
from ..models.streaming_vae import TinyVAE, is_tiny, streaming_vae
from ..schema import build
from ..validation import refuses
from .guidance_spec import GuidanceSpec
from .history_guidance import MAX_STRENGTH

PALETTE, REGION, MOTION = "palette", "region", "motion"
_COLOUR = re.compile(r"#?([\da-f]{6})", re.IGNORECASE)


def _check_colours(score: str, colours: str) -> None:
    """Refuse (BadInput) a palette that cannot be read."""
    if score == PALETTE:
        parse_palette(colours)


def _check_region(score: str, region: str) -> None:
    """Refuse (BadInput) a region that cannot be read."""
    if score == REGION:
        parse_box(region)


@refuses(_check_colours, _check_region)
class ScoreGuidance(io.ComfyNode):
    """One score of a guidance chain."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeScoreGuidance",
            display_name="Score Guidance",
            category=categories.GUIDE,
            description="Steers each step toward a target: colours, a region of a picture, or "
            "motion. Costs passes of a small decoder, no model evaluation.",
            search_aliases=["universal guidance", "classifier guidance", "palette", "colour match"],
            inputs=[*_strength(), *_targets()],
            outputs=[sockets.Guidance.Output(display_name="guidance")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(  # noqa: PLR0913
        cls,
        guidance: GuidanceSpec,
        score: str,
        weight: float,
        limit: float,
        colours: str,
        region: str,
        least_motion: float,
        vae: Any = None,
        image: Tensor | None = None,
    ) -> io.NodeOutput:
        """Append the score to the chain."""
        target: g.Score
        if score == MOTION:
            target = Motion(least_motion)
        elif score == PALETTE:
            target = Palette(parse_palette(colours), score_decoder(vae))
        else:
            target = Region(reference_picture(image), parse_box(region), score_decoder(vae))
        weighted = g.WeightedScore(target, weight, limit)
        return io.NodeOutput(guidance.with_score(weighted, cls.hidden.unique_id))


def score_decoder(vae: Any) -> Pictures:
    """Build the decoder through which scores take gradients; raise BadInput for a large VAE."""
    if vae is None:
        raise BadInput(
            "Score Guidance needs a VAE for palette and region; connect a tiny VAE for the "
            "model's latents."
        )
    if isinstance(vae, DemoVAE):
        return Pictures(vae.first_stage_model, vae.device)
    if not is_tiny(vae):
        kind = kind_of(getattr(vae, "first_stage_model", vae))
        raise BadInput(
            f"palette and region need a tiny VAE, but this is {kind}, whose gradients would take "
            "more memory than the model; load taew2_1 or lighttaew2_1 (taew2_2 for Wan 2.2 5B) "
            "with Load Wan VAE, or choose motion."
        )
    tiny = streaming_vae(vae)
    assert isinstance(tiny, TinyVAE)
    return Pictures(taehv_decoder(tiny.tree.decoder, raw=tiny.raw), tiny.device)


def reference_picture(image: Tensor | None) -> Tensor:
    """Return the first picture of an IMAGE as (3, H, W); BadInput for an IMAGE of no pictures."""
    if image is None:
        raise BadInput("Score Guidance needs an image for region; connect an IMAGE.")
    return PictureFrames(image, USUAL_FPS).pictures(0, 1)[0]


def parse_palette(text: str) -> tuple[Colour, ...]:
    """Read colours from a line such as `#203040 #ffcc00`."""
    colours = []
    for word in list_entries(text):
        match = _COLOUR.fullmatch(word)
        if match is None:
            raise BadInput(
                f"{excerpt(word)} is not a colour; write six hexadecimal digits: #ffcc00."
            )
        value = int(match[1], 16)
        colours.append((value // 65536 / 255, value // 256 % 256 / 255, value % 256 / 255))
    check_colours(colours)
    return tuple(colours)


def parse_box(text: str) -> Box:
    """Read left, top, width and height from a line such as `0 0 0.5 1`."""
    try:
        left, top, width, height = map(float, list_entries(text))
    except ValueError as error:
        raise BadInput(
            f"region is {excerpt(text)}; write left, top, width and height as fractions: 0 0 0.5 1."
        ) from error
    check_box((left, top, width, height))
    return left, top, width, height


def _strength() -> list[io.Input]:
    return [
        sockets.Guidance.Input(
            "guidance", tooltip="The guidance to add to, such as History Guidance's `text only`."
        ),
        io.Combo.Input(
            "score",
            options=[PALETTE, REGION, MOTION],
            default=PALETTE,
            tooltip="`palette`: every pixel close to one of the colours. `region`: a part of every "
            "frame like the image. `motion`: at least this much change between frames.",
        ),
        io.Float.Input(
            "weight",
            default=1.0,
            min=-MAX_STRENGTH,
            max=MAX_STRENGTH,
            step=0.1,
            tooltip="Strength (no unit, -30 to 30): 1 for palette and motion, 3 to 10 for a "
            "region. Negative steers away.",
        ),
        io.Float.Input(
            "limit",
            default=0.5,
            min=0.01,
            max=10.0,
            step=0.05,
            advanced=True,
            tooltip="The most that all steps of a chunk may move a latent frame, 0.01 to 10 "
            "standard deviations of the latents.",
        ),
    ]


def _targets() -> list[io.Input]:
    return [
        io.String.Input(
            "colours",
            default="#1d3557 #e63946 #f1faee",
            tooltip="For `palette`: colours, six hexadecimal digits each.",
        ),
        io.String.Input(
            "region",
            default="0 0 0.5 1",
            tooltip="For `region`: left, top, width and height as fractions of the picture.",
        ),
        io.Float.Input(
            "least_motion",
            default=0.2,
            min=0.01,
            max=9.0,
            step=0.01,
            tooltip="For `motion`: mean change between latent frames, 0.01 to 9 standard "
            "deviations of the latents. The demo's own is about 0.13.",
        ),
        io.Vae.Input(
            "vae",
            optional=True,
            tooltip="For `palette` and `region`: a tiny VAE for the model's latents, from Load Wan "
            "VAE: taew2_1, lighttaew2_1, or taew2_2 for Wan 2.2 5B. For the demo: its own VAE.",
        ),
        io.Image.Input(
            "image",
            optional=True,
            tooltip="For `region`: the reference picture; it is scaled to the shot.",
        ),
    ]
