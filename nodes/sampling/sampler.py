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
from ..length import (
    FRAMES,
    MAX_SECONDS,
    MAX_SEED,
    MAX_SIDE,
    SECONDS,
    SIZE_STEP,
)
from ..models.model_facts import describe_preset_values
from ..planning.announce import announce
from ..planning.costs import describe_guidance
from ..runtime.host_rollout import HostRollout, Provenance, host_spec, open_rollout
from ..runtime.resolved_model import ResolvedModel
from ..runtime.session import session
from ..schema import build
from .resolve import PlannedRollout, RolloutRequest, plan_rollout

MAX_FRAMES = float(MAX_SECONDS * DEMO.fps)
MAX_SNAPSHOT_CHUNKS = 10_000


class DiffusionForcingSampler(io.ComfyNode):
    """The node that generates."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeSampler",
            display_name="Diffusion-Forcing Sampler",
            category=categories.SAMPLE,
            description="Generates a shot of any length chunk by chunk. Finished chunks are kept "
            "on disk: run again after a cancel or a crash and it goes on from there; with other "
            "settings it starts anew.",
            search_aliases=["ksampler", "self forcing", "causal", "autoregressive", "streaming"],
            inputs=[*_models(), *_shot(), *_more()],
            outputs=[sockets.Rollout.Output(display_name="rollout")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @advising()
    def execute(cls, model: Any, **inputs: Any) -> io.NodeOutput:
        """Plan the rollout and show the plan; nothing is generated yet.

        `inputs` are the fields of `RolloutRequest`.
        """
        resolved, request = ResolvedModel.of(model), RolloutRequest(**inputs)
        planned = plan_rollout(resolved, request)
        from_model = describe_preset_values(resolved.facts, planned.values_from_preset)
        provenance = Provenance(cls.hidden.unique_id, resolved.session_only, from_model)
        spec = _spec(resolved, request, planned)
        claim = resolved.engine.host
        rollout = open_rollout(spec, claim, provenance, planned.length, notes=planned.notes)
        announce(
            provenance.node_id, rollout.plan, planned.warnings,
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
    )


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
        io.Model.Input("model", tooltip="The demo model, or a causal Wan 2.1 text-to-video model."),
        io.MultiType.Input(
            "prompts",
            [sockets.Timeline, io.Conditioning],
            tooltip="What the shot shows: a Prompt Timeline, or the conditioning of CLIP Text "
            "Encode for one prompt throughout.",
        ),
        sockets.Schedule.Input(
            "schedule",
            optional=True,
            tooltip="Chunk size, steps and noise levels: Diffusion-Forcing Schedule. Without it: "
            "what the model was trained with.",
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
            tooltip="The same seed gives the same shot. Keep it fixed to go on after a cancel; "
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
            tooltip="How long the shot is, in the unit below; it becomes whole chunks, never "
            "shorter. Making it longer later keeps what is there. From 0.01 to a day "
            f"({MAX_FRAMES:,.0f} frames). 0 goes on until Stop in the Streaming Preview, or "
            f"until the shot fills {DISK_CAP_BYTES / 2**30:.0f} GB of disk.",
        ),
        io.Combo.Input(
            "length_unit",
            options=[SECONDS, FRAMES],
            default=SECONDS,
            tooltip=f"Seconds, or frames of video ({DEMO.fps:g} a second).",
        ),
        io.Float.Input(
            "cfg",
            default=-1.0,
            min=-1.0,
            max=30.0,
            step=0.1,
            tooltip="How strongly to follow the prompt (no unit, 0 to 30); -1 is from the model. 1 "
            "evaluates the model "
            "half as often: use it with distilled models. 2.5 for the demo, 4 to 6 for other "
            "undistilled models. Not used when a guidance is connected.",
        ),
    ]


def _more() -> list[io.Input]:
    return [
        sockets.KVCache.Input(
            "kv_cache",
            optional=True,
            tooltip="How much of the past the model sees: KV Cache Settings. Without it: as much "
            "as it was trained with.",
        ),
        sockets.Guidance.Input(
            "guidance",
            optional=True,
            tooltip="History Guidance, with text guidance of its own: the cfg above is not used "
            "then.",
        ),
        io.Boolean.Input(
            "plan_only",
            default=False,
            optional=True,
            tooltip="Say what would be made (frames, chunks, memory) and make nothing: true or "
            "false. Outputs end at once, without files.",
        ),
        io.MultiType.Input(
            "known_frames",
            [sockets.KnownFrames, io.Latent],
            optional=True,
            tooltip="Pictures or clips that are part of the shot: Known Frames, or a latent of VAE "
            "Encode (Stream) that it begins with (image to video, going on from a video).",
        ),
        io.Int.Input(
            "snapshot_chunks",
            default=0,
            min=0,
            max=MAX_SNAPSHOT_CHUNKS,
            optional=True,
            tooltip="After how many chunks the KV cache goes to disk too, 0 to "
            f"{MAX_SNAPSHOT_CHUNKS:,}; only the newest copy is kept. A shot of an hour then goes "
            "on within a chunk instead of looking through all of it again. 0 is never.",
        ),
        io.Conditioning.Input(
            "picture",
            optional=True,
            tooltip="Only for image-to-video models (Wan 2.1 I2V): a conditioning of ComfyUI's "
            "WanImageToVideo, of which the picture is taken and not the prompt. Not needed where "
            "`prompts` is such a conditioning.",
        ),
        io.Combo.Input(
            "resume",
            options=["exact", "recache"],
            default="exact",
            optional=True,
            advanced=True,
            tooltip="How a shot goes on after a restart. `exact`: all finished chunks are looked "
            "through again, and what follows is what an uninterrupted run gives. `recache`: only "
            "those in the window are; a shot of an hour goes on at once, as another video from "
            "there on. Not used where a snapshot is kept.",
        ),
    ]


def _side(name: str, default: int) -> io.Input:
    return io.Int.Input(
        name,
        default=default,
        min=SIZE_STEP,
        max=MAX_SIDE,
        step=SIZE_STEP,
        tooltip=f"Pixels, a multiple of {SIZE_STEP} from {SIZE_STEP} to "
        f"{MAX_SIDE}. The size the model was trained at is best.",
    )
