"""Diffusion-Forcing Sampler: returns a ROLLOUT at once; outputs pull its chunks later."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ...model.preset import DEMO
from ...stream.journal.disk_limit import DISK_CAP_BYTES
from ...stream.rollout.spec import RolloutSpec
from .. import categories, host, sockets
from ..advice import advising
from ..from_model import TIP
from ..length import (
    FRAMES,
    MAX_SECONDS,
    MAX_SEED,
    MAX_SIDE,
    SECONDS,
    SIZE_STEP,
    check_sides,
)
from ..models.model_facts import describe_preset_values
from ..planning.announce import announce
from ..planning.costs import describe_guidance
from ..runtime.host_rollout import HostRollout, Provenance, host_spec, open_rollout
from ..runtime.resolved_model import ResolvedModel
from ..runtime.session import session
from ..schema import build
from ..sound.in_shot import sound_to_hear
from ..validation import refuses
from .literal_times import literal_times
from .request import RolloutRequest
from .resolve import PlannedRollout, plan_rollout

MAX_FRAMES = float(MAX_SECONDS * DEMO.fps)
MAX_SNAPSHOT_CHUNKS = 10_000


def _check_sides(width: int, height: int) -> None:
    """Refuse (BadInput) sides that no model makes."""
    check_sides(width, height, SIZE_STEP)


@refuses(_check_sides)
class DiffusionForcingSampler(io.ComfyNode):
    """The node that generates."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeSampler",
            display_name="Diffusion-Forcing Sampler",
            category=categories.SAMPLE,
            description="Generates a video of any length, chunk by chunk. Finished chunks stay on "
            "disk: after a cancel or a crash, Run continues from there. Other settings start a new "
            "shot.",
            search_aliases=["text to video", "t2v", "video", "generate video", "endless",
                            "infinite length", "ksampler", "causal", "autoregressive",
                            "streaming"],
            inputs=[*_models(), *_shot(), *_more(), *_steering()],
            outputs=[sockets.Rollout.Output(display_name="rollout")],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )  # fmt: skip

    @classmethod
    @advising()
    def execute(cls, model: Any, **inputs: Any) -> io.NodeOutput:
        """Plan the rollout and show the plan; nothing is generated yet.

        `inputs` are the fields of `RolloutRequest`.
        """
        resolved, request = ResolvedModel.of(model), RolloutRequest(**inputs)
        _announce_hearing(resolved, request, cls.hidden.unique_id)
        planned = plan_rollout(resolved, request)
        from_model = describe_preset_values(resolved.facts, planned.values_from_preset)
        provenance = Provenance(cls.hidden.unique_id, resolved.session_only, from_model)
        spec = _spec(resolved, request, planned)
        claim = resolved.engine.host
        rollout = open_rollout(spec, claim, provenance, planned.length, notes=planned.notes)
        texts = literal_times(cls.hidden.prompt, cls.hidden.unique_id)
        announce(
            provenance.node_id, rollout.plan, (*texts, *planned.warnings),
            from_model=from_model, plan_only=request.plan_only,
        )  # fmt: skip
        _announce_guidance(resolved, request, planned, rollout)
        return io.NodeOutput(rollout)

    @classmethod
    def fingerprint_inputs(cls, **widgets: Any) -> int:
        """A new number after a stop or live edits, so that the host runs the node again."""
        return session.times_altered(cls.hidden.unique_id)


def _spec(resolved: ResolvedModel, request: RolloutRequest, planned: PlannedRollout) -> RolloutSpec:
    return replace(
        host_spec(resolved, planned.settings),
        prompter=request.prompter,
        guided=planned.guided,
        plan_only=request.plan_only,
        snapshot_chunks=request.snapshot_chunks,
        resume=request.resume,
        live=planned.live,
    )


def _announce_hearing(
    resolved: ResolvedModel, request: RolloutRequest, node_id: str | None
) -> None:
    """Say that a sound is heard before the shot begins, which may take a while."""
    model = resolved.engine.config, resolved.preset
    voice = sound_to_hear(*model, request.picture, request.prompts)
    if voice is not None:
        host.show_status(node_id, f"Hears {voice.seconds:.1f} s of sound.")


def _announce_guidance(
    resolved: ResolvedModel,
    request: RolloutRequest,
    planned: PlannedRollout,
    rollout: HostRollout,
) -> None:
    """Show at the connected guidance node what it costs and what it takes from the model."""
    if request.guidance is None:
        return
    from_model = describe_preset_values(resolved.facts, planned.guidance_values)
    text = f"{describe_guidance(rollout.footprint)} {from_model}".rstrip()
    host.show_status(request.guidance.node_id, text)


def _models() -> list[io.Input]:
    return [
        io.Model.Input(
            "model", tooltip="From Load Demo Model, Load Causal Video Model, or any Wan loader."
        ),
        io.MultiType.Input(
            "prompts",
            [sockets.Timeline, io.Conditioning],
            tooltip="What the shot shows: a Prompt Timeline, or CLIP Text Encode for one prompt.",
        ),
        sockets.Schedule.Input(
            "schedule",
            optional=True,
            tooltip="From Diffusion-Forcing Schedule: chunk size, steps, noise levels. Without it: "
            "as the model was trained.",
        ),
    ]


def _shot() -> list[io.Input]:
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=MAX_SEED,
            control_after_generate=io.ControlAfterGenerate.fixed,
            tooltip="The same seed gives the same shot. Keep it fixed to continue after a cancel; "
            "change it for another shot. A whole number, 0 to 2^64 - 1.",
        ),
        _side("width", DEMO.width),
        _side("height", DEMO.height),
        io.Float.Input(
            "length",
            default=10.0,
            min=0.0,
            max=MAX_FRAMES,
            step=0.01,
            tooltip="Length of the shot in seconds (or frames: `length_unit`), rounded up to whole "
            f"chunks, up to a day ({MAX_FRAMES:,.0f} frames). A greater length keeps what exists, "
            "except the last chunks of schedules with several chunks in progress. 0 is endless: "
            "until Stop in the Streaming Preview, or until the shot fills "
            f"{DISK_CAP_BYTES / 2**30:.0f} GB of disk.",
        ),
        io.Combo.Input(
            "length_unit",
            options=[SECONDS, FRAMES],
            default=SECONDS,
            advanced=True,
            tooltip=f"Unit of `length`: seconds, or frames of video ({DEMO.fps:g} per second).",
        ),
        io.Float.Input(
            "cfg",
            default=-1.0,
            min=-1.0,
            max=30.0,
            step=0.1,
            tooltip="How strongly to follow the prompt (no unit, 0 to 30). 1 for the demo and "
            "distilled models: it halves the work. 4 to 6 for other models. Not used if "
            f"`guidance` is connected. {TIP}",
        ),
    ]


def _more() -> list[io.Input]:
    return [
        sockets.KVCache.Input(
            "kv_cache",
            optional=True,
            tooltip="From KV Cache Settings: how much of the past the model sees. Without it: as "
            "the model was trained.",
        ),
        sockets.Guidance.Input(
            "guidance", optional=True, tooltip="From History Guidance. It replaces `cfg`."
        ),
        io.Boolean.Input(
            "plan_only",
            display_name="dry run",
            default=False,
            optional=True,
            advanced=True,
            tooltip="On: shows frames, chunks and memory of the shot, and generates nothing. "
            "Outputs end at once, without files.",
        ),
        io.MultiType.Input(
            "known_frames",
            [sockets.KnownFrames, io.Latent],
            optional=True,
            tooltip="Pictures or clips inside the shot: from Known Frames, or a latent of VAE "
            "Encode (Stream) to begin with (image to video, continue a video).",
        ),
        io.Int.Input(
            "snapshot_chunks",
            display_name="save cache every N chunks",
            default=0,
            min=0,
            max=MAX_SNAPSHOT_CHUNKS,
            optional=True,
            advanced=True,
            tooltip="Saves the KV cache to disk after every N chunks, 0 to "
            f"{MAX_SNAPSHOT_CHUNKS:,} (0: never); only the newest copy stays. An hour-long shot "
            "then resumes within a chunk instead of re-reading all of it.",
        ),
        io.Conditioning.Input(
            "picture",
            optional=True,
            advanced=True,
            tooltip="Only for image-to-video models (Wan 2.1 I2V): the positive conditioning of "
            "ComfyUI's WanImageToVideo. Only its picture is used, and for Fun-Camera the camera of "
            "WanCameraImageToVideo. Not needed if `prompts` is connected to it.",
        ),
        io.Combo.Input(
            "resume",
            options=["exact", "recache"],
            default="exact",
            optional=True,
            advanced=True,
            tooltip="How a shot continues after a restart. `exact`: re-reads all finished chunks; "
            "the result equals an uninterrupted run. `recache`: re-reads only the window; fast "
            "for an hour-long shot, but the video differs from there on. Not used with a saved "
            "cache.",
        ),
    ]


def _steering() -> list[io.Input]:
    return [
        sockets.CameraPath.Input(
            "camera",
            optional=True,
            advanced=True,
            tooltip="From Camera Path: how the camera moves. Only for models that take a camera.",
        ),
        sockets.ControlVideo.Input(
            "control",
            optional=True,
            advanced=True,
            tooltip="From Control Video (Stream): frames, masks or pictures to follow. Only for "
            "models with Load VACE Module.",
        ),
    ]


def _side(name: str, default: int) -> io.Input:
    return io.Int.Input(
        name,
        default=default,
        min=SIZE_STEP,
        max=MAX_SIDE,
        step=SIZE_STEP,
        tooltip=f"Pixels, a multiple of {SIZE_STEP} from {SIZE_STEP} to {MAX_SIDE}. Best: the "
        "size the model was trained at.",
    )
