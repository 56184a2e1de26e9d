"""Memory Rules: how commits and steps read the past, and an anchor for its colours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ...samplers.history.settings import CacheSettings
from ...samplers.rules.anchor import Anchor, ChannelStatistics
from .. import categories, host, sockets
from ..known.known_frames import normalised_latents
from ..schema import build
from .cache_spec import TOP_ALIGNED, KVCacheSpec, Resolvable
from .rules_spec import (
    COMMIT_FORCING,
    CONTIGUOUS,
    CUSTOM,
    EVERYTHING,
    FROM_MODEL,
    OFF,
    RECENCY_FORCING,
    CustomRules,
    RuledCacheSpec,
)


class MemoryRulesNode(io.ComfyNode):
    """Rules on top of a KV_CACHE value."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeMemoryRules",
            display_name="Memory Rules",
            category=categories.SAMPLE,
            description="Says how the model reads its past, against drift in long shots, without "
            "training. By default only the rules that the model was trained with are on.",
            search_aliases=["commit forcing", "recency forcing", "drift", "anchor", "color shift"],
            inputs=[*_rules(), *_reading(), *_far(), *_positions(), *_switch(), *_picture()],
            outputs=[sockets.KVCache.Output(display_name="kv_cache")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(  # noqa: PLR0913
        cls,
        rules: str = FROM_MODEL,
        anchor: float = 0.0,
        kv_cache: Resolvable | None = None,
        commit_sees: int = EVERYTHING,
        recency_depth: float = 0.0,
        near_frames: int = 0,
        far_steps: int = 1,
        far_layers: float = 1 / 3,
        far_stride: int = 1,
        far_share: float = 1.0,
        positions: str = FROM_MODEL,
        past_weight: float = 1.0,
        past_chunks: int = 1,
        anchor_picture: Mapping[str, Any] | None = None,
    ) -> io.NodeOutput:
        """Return the history's settings with the rules; the sampler fills in the model's."""
        custom = CustomRules(
            commit_sees, recency_depth, near_frames, far_steps, far_layers, far_stride, far_share,
            positions, past_weight, past_chunks,
        )  # fmt: skip
        if anchor_picture is not None and not anchor:
            host.warn(cls.hidden.unique_id, "anchor_picture has no effect while anchor is 0.")
        target = _anchor_of(anchor, anchor_picture)
        cache = kv_cache or KVCacheSpec(CacheSettings)
        return io.NodeOutput(RuledCacheSpec(cache, rules, custom, target))


def _anchor_of(strength: float, picture: Mapping[str, Any] | None) -> Anchor | None:
    if not strength:
        return None
    if picture is None:
        return Anchor(strength)
    return Anchor(strength, ChannelStatistics.of(normalised_latents(picture, "anchor picture")))


def _rules() -> list[io.Input]:
    return [
        sockets.KVCache.Input(
            "kv_cache",
            optional=True,
            tooltip="From KV Cache Settings. Left open: the model's own history.",
        ),
        io.Combo.Input(
            "rules",
            options=[FROM_MODEL, OFF, COMMIT_FORCING, RECENCY_FORCING, CUSTOM],
            default=FROM_MODEL,
            tooltip="`from model`: as trained, so far SGF's positions alone. `off`: none. "
            "`commit forcing`: finished frames are stored without a look at the sink. `recency "
            "forcing`: older frames count less while denoising. `custom`: the inputs below, which "
            "the others ignore; `anchor` always counts.",
        ),
        io.Float.Input(
            "anchor",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="How far colours and contrast of every chunk return to those of the first "
            "chunk under its prompt, 0 to 1, no unit. 0: not at all. 1 freezes them.",
        ),
    ]


def _reading() -> list[io.Input]:
    return [
        io.Int.Input(
            "commit_sees",
            default=EVERYTHING,
            min=EVERYTHING,
            max=4096,
            optional=True,
            advanced=True,
            tooltip="Newest latent frames, without the sink, that finished frames see when they "
            "are stored, 0 to 4096. 0: their chunk alone. -1: all that denoising may see.",
        ),
        io.Float.Input(
            "recency_depth",
            default=0.0,
            min=0.0,
            max=16.0,
            step=0.1,
            optional=True,
            advanced=True,
            tooltip="How much less older frames count while denoising, 0 to 16, no unit (a log "
            "weight). 0: not at all. 4: as published. The sink and the newest chunk count fully.",
        ),
    ]


def _far() -> list[io.Input]:
    return [
        io.Int.Input(
            "near_frames",
            default=0,
            min=0,
            max=4096,
            optional=True,
            advanced=True,
            tooltip="Newest latent frames that every step reads, 0 to 4096. Older ones, except "
            "the sink, are read only where `far_steps` and `far_layers` say. 0: all, everywhere.",
        ),
        io.Int.Input(
            "far_steps",
            default=1,
            min=0,
            max=100,
            optional=True,
            advanced=True,
            tooltip="Last steps of a chunk that read beyond `near_frames`, 0 to 100. 1: as "
            "published. 0: none; only commits do.",
        ),
        io.Float.Input(
            "far_layers",
            default=1 / 3,
            min=0.01,
            max=1.0,
            step=0.01,
            optional=True,
            advanced=True,
            tooltip="Share of the layers, the last ones, that read beyond `near_frames`, 0.01 to "
            "1, no unit. A third is published.",
        ),
        io.Int.Input(
            "far_stride",
            default=1,
            min=1,
            max=100,
            optional=True,
            advanced=True,
            tooltip="Which of `far_layers` read beyond `near_frames`: every n-th, from the last "
            "back, 1 to 100. 1: all of them. 2: every second layer, at half the cost.",
        ),
        io.Float.Input(
            "far_share",
            default=1.0,
            min=0.01,
            max=1.0,
            step=0.01,
            optional=True,
            advanced=True,
            tooltip="Share of the frames beyond `near_frames` that is read, those that the pass "
            "attends to most, 0.01 to 1, no unit. 1: all of them.",
        ),
    ]


def _positions() -> list[io.Input]:
    return [
        io.Combo.Input(
            "positions",
            options=[FROM_MODEL, CONTIGUOUS, TOP_ALIGNED],
            default=FROM_MODEL,
            optional=True,
            advanced=True,
            tooltip="Where frames stand in time for the model. `from model`: as trained. "
            "`contiguous`: the window follows the sink. `top-aligned`: the window ends at the top "
            "of the trained range, with a gap after the sink (SGF). Changes nothing without a "
            "sink.",
        ),
    ]


def _switch() -> list[io.Input]:
    return [
        io.Float.Input(
            "past_weight",
            default=1.0,
            min=0.0,
            max=4.0,
            step=0.05,
            optional=True,
            advanced=True,
            tooltip="How much the past counts after a change of prompt, 0 to 4, no unit. Below 1 "
            "a new subject can appear sooner. 1: as always. 0: the past is not read.",
        ),
        io.Int.Input(
            "past_chunks",
            default=1,
            min=1,
            max=64,
            optional=True,
            advanced=True,
            tooltip="Chunks after a change of prompt for which `past_weight` holds, 1 to 64.",
        ),
    ]


def _picture() -> list[io.Input]:
    return [
        io.Latent.Input(
            "anchor_picture",
            optional=True,
            advanced=True,
            tooltip="A picture from VAE Encode (Stream) whose colours and contrast are the "
            "anchor's, in place of the first chunk's.",
        ),
    ]
