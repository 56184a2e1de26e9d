"""The canvas: V3 nodes for ComfyUI."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .collect import CollectFrames, CollectLatents, FramesToVideo
from .context_noise import ContextNoiseSettings
from .doctor import Doctor
from .guidance import HistoryGuidance
from .guidance_parts import GuidanceOptions, GuidanceTerm
from .known_frames import KnownFrames
from .load_demo import LoadDemoModel
from .load_lora import LoadWanLora
from .load_model import LoadCausalVideoModel
from .model_settings import SettingsFromModel
from .outputs import SaveVideo
from .preview import StreamingPreview
from .prompts import PromptTimeline
from .routes import open_to_browsers
from .sampler import DiffusionForcingSampler
from .schedule import DiffusionForcingSchedule
from .score_guidance import ScoreGuidance
from .settings import KVCacheSettings
from .upscale import UpscaleStream
from .vae import VAEDecodeStream, VAEEncodeStream

NODES: tuple[type[io.ComfyNode], ...] = (
    LoadDemoModel,
    LoadCausalVideoModel,
    LoadWanLora,
    SettingsFromModel,
    PromptTimeline,
    KVCacheSettings,
    DiffusionForcingSchedule,
    ContextNoiseSettings,
    HistoryGuidance,
    GuidanceTerm,
    GuidanceOptions,
    ScoreGuidance,
    KnownFrames,
    DiffusionForcingSampler,
    VAEDecodeStream,
    VAEEncodeStream,
    UpscaleStream,
    StreamingPreview,
    SaveVideo,
    CollectFrames,
    FramesToVideo,
    CollectLatents,
    Doctor,
)


class LongtakeExtension(ComfyExtension):
    """The node list, and what the pack adds to the web server."""

    async def on_load(self) -> None:
        """Called once, before the host's web server takes its routes."""
        open_to_browsers()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node of this pack, in the order of a workflow."""
        return list(NODES)
