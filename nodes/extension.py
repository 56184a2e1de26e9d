"""The list of nodes that ComfyUI gets, and what the pack adds to its web server."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .attention.sparse_attention import SparseAttentionNode
from .conditioning.prompts import PromptTimeline
from .doctor import Doctor
from .frames.interpolate import InterpolateStream
from .frames.pictures import ImagesToFrames
from .frames.vae import VAEDecodeStream, VAEEncodeStream
from .frames.video_frames import VideoToFrames
from .guidance.history_guidance import HistoryGuidance
from .guidance.nag import NAGGuidance
from .guidance.score_guidance import ScoreGuidance
from .guidance.skip_layer import SkipLayerGuidance
from .guidance.term import GuidanceTerm
from .inputs import limited
from .known.known_frames import KnownFrames
from .known.known_video import KnownVideo
from .known.live_input import LiveInputNode
from .memory.kv_cache import KVCacheSettings
from .memory.memory_rules import MemoryRulesNode
from .models.fit_route import open_fit_route
from .models.flashvsr.load import LoadFlashVSR
from .models.load_demo import LoadDemoModel
from .models.load_lora import LoadWanLora
from .models.load_model import LoadCausalVideoModel
from .models.load_vace import LoadVaceModule
from .models.load_vae import LoadWanVAE
from .models.model_family import SetModelFamily
from .models.model_pair import ModelPair
from .outputs.collect import Collect
from .outputs.preview import StreamingPreview
from .outputs.routes import open_to_browsers
from .outputs.save_video import SaveVideo
from .rollouts.compare import CompareRollouts
from .rollouts.edit import EditRollout
from .rollouts.files import LoadRollout, SaveRollout
from .rollouts.info import RolloutInfo
from .rollouts.splice import SpliceRollouts
from .sampling.compile_model import CompileModel
from .sampling.context_noise import ContextNoiseSettings
from .sampling.feature_caching import FeatureCachingNode
from .sampling.model_settings import SettingsFromModel
from .sampling.sampler import DiffusionForcingSampler
from .sampling.schedule import DiffusionForcingSchedule
from .sound.sound_curve import SoundCurve
from .sound.voice import VoiceNode
from .stages.super_resolution import SuperResolution
from .stages.upscale import UpscaleStream
from .steering.camera_path import CameraPathNode
from .steering.control_video import ControlVideoNode

NODES: tuple[type[io.ComfyNode], ...] = tuple(
    limited(node)
    for node in (
        LoadDemoModel,
        LoadCausalVideoModel,
        SetModelFamily,
        LoadWanLora,
        ModelPair,
        LoadVaceModule,
        LoadWanVAE,
        LoadFlashVSR,
        PromptTimeline,
        CameraPathNode,
        ControlVideoNode,
        SoundCurve,
        VoiceNode,
        KnownFrames,
        KnownVideo,
        LiveInputNode,
        SettingsFromModel,
        SparseAttentionNode,
        CompileModel,
        KVCacheSettings,
        MemoryRulesNode,
        DiffusionForcingSchedule,
        ContextNoiseSettings,
        FeatureCachingNode,
        DiffusionForcingSampler,
        HistoryGuidance,
        GuidanceTerm,
        NAGGuidance,
        SkipLayerGuidance,
        ScoreGuidance,
        EditRollout,
        SaveRollout,
        LoadRollout,
        RolloutInfo,
        CompareRollouts,
        SpliceRollouts,
        VideoToFrames,
        ImagesToFrames,
        VAEDecodeStream,
        VAEEncodeStream,
        UpscaleStream,
        SuperResolution,
        InterpolateStream,
        StreamingPreview,
        SaveVideo,
        Collect,
        Doctor,
    )
)
"""Folder by folder: the node menu shows the folders in the order of their first nodes here."""


class LongtakeExtension(ComfyExtension):
    """The node list, and what the pack adds to the web server."""

    async def on_load(self) -> None:
        """Called once, before the host's web server takes its routes."""
        open_to_browsers()
        open_fit_route()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node of this pack, in the order of the node menu."""
        return list(NODES)
