"""The list of nodes that ComfyUI gets, and what the pack adds to its web server."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .collect import CollectFrames, CollectLatents, FramesToVideo
from .compare import CompareRollouts
from .context_noise import ContextNoiseSettings
from .doctor import Doctor
from .fork import ForkRollout
from .guidance import HistoryGuidance
from .guidance_parts import GuidanceOptions, GuidanceTerm
from .known_frames import KnownFrames
from .known_video import KnownVideo
from .load_demo import LoadDemoModel
from .load_lora import LoadWanLora
from .load_model import LoadCausalVideoModel
from .load_vae import LoadWanVAE
from .model_settings import SettingsFromModel
from .outputs import SaveVideo
from .preview import StreamingPreview
from .prompts import PromptTimeline
from .rewind import ContinueRollout, RewindRollout
from .rollout_files import LoadRollout, SaveRollout
from .rollout_info import RolloutInfo
from .routes import open_to_browsers
from .sampler import DiffusionForcingSampler
from .schedule import DiffusionForcingSchedule
from .score_guidance import ScoreGuidance
from .settings import KVCacheSettings
from .sparse_attention import SparseAttentionNode
from .splice import SpliceRollouts
from .upscale import UpscaleStream
from .vae import VAEDecodeStream, VAEEncodeStream
from .video_frames import VideoToFrames

NODES: tuple[type[io.ComfyNode], ...] = (
    LoadDemoModel,
    LoadCausalVideoModel,
    LoadWanLora,
    LoadWanVAE,
    SettingsFromModel,
    SparseAttentionNode,
    PromptTimeline,
    KVCacheSettings,
    DiffusionForcingSchedule,
    ContextNoiseSettings,
    HistoryGuidance,
    GuidanceTerm,
    GuidanceOptions,
    ScoreGuidance,
    VideoToFrames,
    KnownFrames,
    KnownVideo,
    DiffusionForcingSampler,
    ForkRollout,
    RewindRollout,
    ContinueRollout,
    SaveRollout,
    LoadRollout,
    RolloutInfo,
    VAEDecodeStream,
    VAEEncodeStream,
    UpscaleStream,
    CompareRollouts,
    SpliceRollouts,
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
