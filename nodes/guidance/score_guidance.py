"""Score Guidance: wishes that the video is pulled towards, by their gradient."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...errors import BadInput
from ...model.vae.taehv import taehv_decoder
from ...samplers import guidance as g
from ...samplers.guidance.scores import Box, Colour, Motion, Palette, Pictures, Region
from .. import categories, sockets
from ..models.demo_objects import DemoVAE
from ..models.streaming_vae import TinyVAE, is_tiny, streaming_vae
from ..schema import build
from .guidance_spec import GuidanceSpec
from .history_guidance import STRONGEST

PALETTE, REGION, MOTION = "palette", "region", "motion"


class ScoreGuidance(io.ComfyNode):
    """One score, added to a guidance."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return build(
            io.Schema,
            node_id="LongtakeScoreGuidance",
            display_name="Score Guidance",
            category=categories.GUIDE,
            description="Pulls the video towards a wish at each step: colours, a region of a "
            "picture, or motion. Costs a small decoder's passes, no evaluation of the model.",
            search_aliases=["universal guidance", "classifier guidance", "palette", "colour match"],
            inputs=[*_how_much(), *_wishes()],
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
        """The guidance with one more score."""
        wish: g.Score
        if score == MOTION:
            wish = Motion(least_motion)
        elif score == PALETTE:
            wish = Palette(palette(colours), pictures(vae))
        else:
            wish = Region(reference(image), box(region), pictures(vae))
        pull = g.WeightedScore(wish, weight, limit)
        return io.NodeOutput(guidance.pulled(pull, cls.hidden.unique_id))


def pictures(vae: Any) -> Pictures:
    """The decoder for scores, or a refusal."""
    if vae is None:
        raise BadInput(
            "Score Guidance needs a VAE for palette and region; connect a tiny one that knows the "
            "model's latents."
        )
    if isinstance(vae, DemoVAE):
        return Pictures(vae.first_stage_model, vae.device)
    if not is_tiny(vae):
        kind = type(getattr(vae, "first_stage_model", vae)).__name__
        raise BadInput(
            f"palette and region need a tiny VAE, and this one is a {kind}, whose gradients would "
            "take more than the model; load taew2_1 or lighttaew2_1 (taew2_2 for Wan 2.2 5B) with "
            "Load Wan VAE, or choose motion."
        )
    tiny = streaming_vae(vae)
    assert isinstance(tiny, TinyVAE), "so it is tiny"
    return Pictures(taehv_decoder(tiny.tree.decoder, raw=tiny.raw), tiny.device)


def reference(image: Tensor | None) -> Tensor:
    """The first picture of an IMAGE as (3, H, W)."""
    if image is None:
        raise BadInput("Score Guidance needs an image for region; connect one.")
    return image[0, ..., :3].movedim(-1, 0)


def palette(written: str) -> tuple[Colour, ...]:
    """Colours from a line such as `#203040 #ffcc00`."""
    found = []
    for word in written.replace(",", " ").split():
        digits = word.removeprefix("#")
        try:
            value = int(digits, 16) if len(digits) == 6 else -1
        except ValueError:
            value = -1
        if value < 0:
            raise BadInput(f"{word!r} is not a colour; write six hexadecimal digits: #ffcc00.")
        found.append((value // 65536 / 255, value // 256 % 256 / 255, value % 256 / 255))
    return tuple(found)


def box(written: str) -> Box:
    """Left, top, width, height from a line such as `0 0 0.5 1`."""
    try:
        left, top, width, height = (float(word) for word in written.replace(",", " ").split())
    except ValueError as error:
        raise BadInput(
            f"region is {written!r}; write left, top, width and height as fractions: 0 0 0.5 1."
        ) from error
    return left, top, width, height


def _how_much() -> list[io.Input]:
    return [
        sockets.Guidance.Input(
            "guidance", tooltip="The guidance to add to, such as History Guidance's `text only`."
        ),
        io.Combo.Input(
            "score",
            options=[PALETTE, REGION, MOTION],
            default=PALETTE,
            tooltip="`palette`: every pixel near one of the colours; `region`: a part of every "
            "frame as in the image; `motion`: no less change than least_motion.",
        ),
        io.Float.Input(
            "weight",
            default=1.0,
            min=-STRONGEST,
            max=STRONGEST,
            step=0.1,
            tooltip="How strongly it pulls (no unit, -30 to 30): 1 for palette and motion, 3 to 10 "
            "for a region; below 0 it pushes away.",
        ),
        io.Float.Input(
            "limit",
            default=0.5,
            min=0.01,
            max=10.0,
            step=0.05,
            tooltip="The most it may move a latent frame over a chunk's steps, 0.01 to 10 standard "
            "deviations of the latents.",
        ),
    ]


def _wishes() -> list[io.Input]:
    return [
        io.String.Input(
            "colours",
            default="#1d3557 #e63946 #f1faee",
            tooltip="For `palette`: colours as six hexadecimal digits each.",
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
            tooltip="For `motion`: mean change from one latent frame to the next, 0.01 to 9 "
            "standard deviations of the latents. The demo's own is about 0.13.",
        ),
        io.Vae.Input(
            "vae",
            optional=True,
            tooltip="For `palette` and `region`: a tiny VAE for the model's latents, from Load Wan "
            "VAE: taew2_1, lighttaew2_1 or, for Wan 2.2 5B, taew2_2; the demo's own for the demo. "
            "Its decoder is copied.",
        ),
        io.Image.Input(
            "image",
            optional=True,
            tooltip="For `region`: the reference, scaled to the shot.",
        ),
    ]
