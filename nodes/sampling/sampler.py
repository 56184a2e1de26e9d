"""Diffusion-Forcing Sampler: gives a ROLLOUT at once; chunks are made when outputs ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ...attention.temp_cache.policy import TempCache
from ...model.config import PATCH
from ...model.preset import DEMO, Preset
from ...samplers.denoiser import Denoiser
from ...samplers.history.settings import CacheSettings
from ...samplers.planning.cost import idle_views
from ...samplers.settings import RolloutSettings
from ...stream.journal.disk_limit import DISK_CAP_BYTES
from ...stream.rollout.recache import Resume
from ...stream.rollout.recache import check as check_resume
from .. import categories, host, sockets
from ..advice import advising
from ..attention.attention_spec import attention_spec_of
from ..conditioning.known_frames import KnownClip, place_clips
from ..conditioning.prompt_plan import (
    check_own_prompts,
    guidance_changes,
    prompt_timeline,
    truncated_prompts,
    unused_prompts,
)
from ..conditioning.reference import reference
from ..conditioning.timeline import Timeline
from ..from_model import TIP
from ..guidance.guidance_spec import CfgSpec, GuidanceSpec
from ..length import (
    FRAMES,
    MAX_SECONDS,
    MAX_SEED,
    MAX_SIDE,
    SECONDS,
    SIZE_STEP,
    check_endless,
    latent_size,
    snapped_length,
)
from ..models.identity import identity
from ..models.model_facts import facts, from_model
from ..models.patches import ignored_patches
from ..planning import costs
from ..rollouts.derive import say_plan
from ..runtime.host_rollout import HostRollout, denoiser, host_spec, open_rollout
from ..runtime.session import session
from ..schema import build
from . import cache_spec, schedule_spec
from .cache_spec import KVCacheSpec
from .schedule_spec import ScheduleSpec
from .training_limits import out_of_distribution_warnings

MAX_FRAMES = float(MAX_SECONDS * DEMO.fps)
NAMES_SHOWN = 6
MAX_SNAPSHOT_CHUNKS = 10_000


class DiffusionForcingSampler(io.ComfyNode):
    """The node that generates."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
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
            inputs=[*_models(), *_shot(), *_more()],
            outputs=[sockets.Rollout.Output(display_name="rollout")],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    @advising()
    def execute(  # noqa: PLR0913
        cls,
        model: Any,
        prompts: Timeline | list[Any],
        seed: int,
        width: int,
        height: int,
        length: float,
        length_unit: str,
        cfg: float,
        kv_cache: cache_spec.Resolvable | None = None,
        guidance: GuidanceSpec | None = None,
        plan_only: bool = False,
        known_frames: tuple[KnownClip, ...] | Mapping[str, Any] | None = None,
        snapshot_chunks: int = 0,
        picture: list[Any] | None = None,
        resume: Resume = "exact",
        schedule: schedule_spec.Resolvable | None = None,
    ) -> io.NodeOutput:
        """Plan the rollout and say what will be made; nothing is generated yet."""
        engine, preset = denoiser(model), facts(model).preset
        rows, columns = latent_size(width, height, engine.config.out_channels)
        schedule, kv_cache = schedule or ScheduleSpec(), kv_cache or KVCacheSpec(CacheSettings)
        levels, cache = schedule.resolve(preset), _kept(kv_cache, model, rows * columns)
        asked_for = guidance or CfgSpec(None if cfg < 0 else cfg)
        kept = cache.policy_for(drops_first_frame=preset.drops_first_frame)
        guided = asked_for.resolve(preset, sink=(sink := kept.sink_frames > 0))
        check_own_prompts(guided, engine.config)
        known, unit = (
            place_clips(known_frames, preset.fps, engine.config),
            levels.schedule.chunk_frames,
        )
        planned = snapped_length(length, length_unit, preset.fps, unit, known.leading)
        known = known.before(planned.latent_frames)
        rescaled = asked_for.at_strength(guided)
        settings = RolloutSettings(
            prompt_timeline(prompts, engine.config, planned), rows, columns, levels.schedule,
            length=planned.latent_frames, seed=seed, solver=levels.solver,
            context_noise=levels.context_noise,
            guidance=guided, cache=kept, known_frames=known,
            guidance_changes=guidance_changes(prompts, planned, rescaled),
            reference=reference(engine.config, picture, prompts),
        )  # fmt: skip
        settings = _remembering(settings, model, engine, cache)
        check_endless(planned, settings.cache)
        check_resume(resume, settings.cache)
        prompter = prompts.prompter if isinstance(prompts, Timeline) else None
        name, session_only = identity(model)
        spec = replace(
            host_spec(engine, settings, name), prompter=prompter, guided=rescaled,
            plan_only=plan_only, snapshot_chunks=snapshot_chunks, resume=resume,
        )  # fmt: skip
        taken = schedule.taken(preset) | _taken(kv_cache, settings, preset)
        taken |= asked_for.values_from_preset(preset, sink=sink)
        rollout = open_rollout(
            spec, engine.host, node_id=cls.hidden.unique_id, session_only=session_only,
            from_model=from_model(facts(model), taken),
        )  # fmt: skip
        said = unused_prompts(prompts, planned)
        said += truncated_prompts(prompts, engine.config, guided.own_prompts)
        said += out_of_distribution_warnings(
            facts(model), settings, (width, height), by_cfg=guidance is None
        )
        problems = [*_problems(rollout, model), *said]
        say_plan(rollout, planned, costs.choice_line(cache, settings), problems)
        if guidance is not None:
            own = from_model(facts(model), guidance.values_from_preset(preset, sink=sink))
            host.say(guidance.node_id, f"{costs.guidance_line(settings, engine)} {own}".rstrip())
        return io.NodeOutput(rollout)

    @classmethod
    def fingerprint_inputs(cls, **widgets: Any) -> int:
        """Another number makes the host run this again: after a stop, to go on; after live edits,
        since the widgets alone give another video.
        """
        return session.times_altered(cls.hidden.unique_id)


def _problems(rollout: HostRollout, model: Any) -> list[str]:
    """What of the user's graph has no effect, one sentence each."""
    found = []
    names = ignored_patches(model)
    if names:
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        shown = ", ".join(names[:NAMES_SHOWN])
        found.append(f"These patches on the model have no effect here: {shown}{more}.")
    if rollout.session_only:
        found.append(
            f"Finished chunks can be used again only until ComfyUI is restarted: "
            f"{rollout.session_only}."
        )
    return found + idle_views(rollout.settings)


def _kept(asked: cache_spec.Resolvable, model: Any, latent_pixels: int) -> CacheSettings:
    """The history that is asked for, and what ANN-Sparse Attention makes of it, in latent frames of
    so many rows x columns.
    """
    preset, sparse = facts(model).preset, attention_spec_of(model)
    cache = asked.resolve(preset)
    return cache if sparse is None else sparse.over(cache, preset, latent_pixels // PATCH**2)


def _taken(
    asked: cache_spec.Resolvable, settings: RolloutSettings, preset: Preset
) -> dict[str, object]:
    """What of the history is the model's own: nothing, where entries are in a window's place."""
    return {} if isinstance(settings.cache, TempCache) else asked.taken(preset)


def _remembering(
    settings: RolloutSettings, model: Any, engine: Denoiser, cache: CacheSettings
) -> RolloutSettings:
    """`settings` with that history within its budget, and with the MODEL's sparse attention."""
    leaves, sparse = facts(model).preset.drops_first_frame, attention_spec_of(model)
    place = engine.device, engine.dtype
    if sparse is None:
        return cache.put_in_force(settings, engine.config, place, drops_first_frame=leaves)
    settings = replace(settings, sparsity=sparse.sparsity)
    kept = cache.put_in_force(settings, engine.config, place, drops_first_frame=leaves)
    return sparse.indexed(kept)


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
            "chunks, up to a day "
            f"({MAX_FRAMES:,.0f} frames). A greater length keeps what exists. 0 is endless: until "
            "Stop in the Streaming Preview, or until the shot fills "
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
            tooltip="How strongly to follow the prompt (no unit, 0 to 30). 1 for distilled models: "
            "it halves the work. 2.5 for the demo, 4 to 6 for other undistilled models. Not used "
            f"if `guidance` is connected. {TIP}",
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
            "ComfyUI's WanImageToVideo. Only its picture is used. Not needed if `prompts` is "
            "connected to it.",
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
