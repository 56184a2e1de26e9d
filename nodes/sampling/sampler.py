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
from ..conditioning.known_frames import KnownClip, placed
from ..conditioning.prompt_plan import (
    check_own_prompts,
    cut_prompts,
    guidance_changes,
    never_shown,
    prompt_timeline,
)
from ..conditioning.reference import reference
from ..conditioning.timeline import Timeline
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
        known, unit = placed(known_frames, preset.fps, engine.config), levels.schedule.chunk_frames
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
        said = never_shown(prompts, planned)
        said += cut_prompts(prompts, engine.config, guided.own_prompts)
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
