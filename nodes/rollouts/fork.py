"""Fork Rollout: another shot that begins as this one does."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...errors import BadInput
from ...samplers.conditioning.prompts import TimedPrompt, fit_length
from ...samplers.settings import RolloutSettings
from ...stream.rollout.controls import MAX_GUIDANCE
from ...stream.rollout.fork import Fork
from ...stream.timecode import time_label
from .. import categories, host, sockets
from ..length import MAX_SECONDS, MAX_SEED, SECONDS, snapped_length
from ..runtime.host_rollout import HostRollout
from ..runtime.session import session
from ..schema import build
from .derive import chunk_near, derive_rollout, first_frame, time_of

SAME = -1


class ForkRollout(io.ComfyNode):
    """ROLLOUT to ROLLOUT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return build(
            io.Schema,
            node_id="LongtakeForkRollout",
            display_name="Fork Rollout",
            category=categories.ROLLOUT,
            description="Another shot that is the same up to a time and different from there: with "
            "a new prompt, seed or guidance. What both share is made and kept once; the source "
            "stays as it is.",
            search_aliases=["branch", "variation", "what if", "split", "alternative"],
            inputs=[
                sockets.Rollout.Input("rollout", tooltip="The shot to fork."),
                io.Float.Input(
                    "at",
                    default=-1.0,
                    min=-1.0,
                    max=float(MAX_SECONDS),
                    step=0.01,
                    tooltip="When it becomes different, in seconds from the start, -1 to "
                    f"{MAX_SECONDS:,}; the chunk that begins nearest is the first new "
                    "one. -1 is the end of the source, as after Rewind Rollout.",
                ),
                io.String.Input(
                    "new_prompt",
                    multiline=True,
                    default="",
                    tooltip="What is shown from there to the end, in place of the source's later "
                    "prompts. Empty keeps them.",
                ),
                *_numbers(),
            ],
            outputs=[sockets.Rollout.Output(display_name="rollout")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(  # noqa: PLR0913
        cls,
        rollout: HostRollout,
        at: float,
        new_prompt: str,
        new_seed: int,
        new_guidance: float,
        length: float,
    ) -> io.NodeOutput:
        """Other settings of the same generation; nothing is made yet."""
        frame = first_frame(rollout, chunk_near(rollout, at, "at"))
        fork = Fork(
            frame,
            _prompt(rollout, new_prompt),
            new_seed if new_seed > SAME else None,
            rollout.spec.guided(new_guidance) if new_guidance > SAME else None,
        )
        settings = _as_long(fork.of(rollout.settings), rollout, frame, length)
        forked = derive_rollout(rollout, settings, cls.hidden.unique_id)
        host.show_status(cls.hidden.unique_id, _said(forked, fork))
        return io.NodeOutput(forked)

    @classmethod
    def fingerprint_inputs(cls, **widgets: Any) -> int:
        """As the sampler's: after a stop or live edits it is to be run again."""
        return session.times_altered(cls.hidden.unique_id)


def _prompt(rollout: HostRollout, text: str) -> TimedPrompt | None:
    """A new prompt, encoded by the source's text encoder."""
    text = " ".join(text.split())
    if not text:
        return None
    if rollout.spec.prompter is None:
        raise BadInput(
            "The prompt of a fork cannot be encoded: give Load Rollout a clip, or the sampler a "
            "Prompt Timeline in place of CLIP Text Encode."
        )
    embedding = rollout.spec.prompter.encode(text)
    return TimedPrompt(0, fit_length(embedding, len(rollout.settings.prompts.negative)), text)


def _as_long(
    settings: RolloutSettings, source: HostRollout, frame: int, length: float
) -> RolloutSettings:
    """The settings at the length asked for, 0 being the source's; refused where nothing follows."""
    if length:
        unit, given = settings.schedule.chunk_frames, settings.known.whole.leading
        snapped = snapped_length(length, SECONDS, source.fps, unit, given)
        assert snapped.latent_frames is not None
        settings = settings.lasting(snapped.latent_frames)
    if settings.length is not None and settings.length <= frame:
        raise BadInput(
            f"The fork is at {time_of(source, frame):g} s, where it would end too; give it a "
            "greater length, or an earlier time."
        )
    return settings


def _said(forked: HostRollout, fork: Fork) -> str:
    kept, shared = forked.spec.stored_chunks(), time_label(time_of(forked, fork.frame))
    changes = [name for name in ("prompt", "seed", "guidance") if getattr(fork, name) is not None]
    what = f"with another {', '.join(changes)}" if changes else "without a change"
    return f"Forked at {shared} {what}; {kept} chunks are there already."


def _numbers() -> list[io.Input]:
    return [
        io.Int.Input(
            "new_seed",
            default=SAME,
            min=SAME,
            max=MAX_SEED,
            control_after_generate=io.ControlAfterGenerate.fixed,
            tooltip="The seed from there on, a whole number, -1 to 2^64 - 1. -1 keeps the "
            "source's; another one gives another continuation.",
        ),
        io.Float.Input(
            "new_guidance",
            default=float(SAME),
            min=float(SAME),
            max=MAX_GUIDANCE,
            step=0.1,
            tooltip="The guidance strength from there on (no unit, -1 to 30): cfg, or the factor "
            "on a connected History Guidance. -1 keeps the source's.",
        ),
        io.Float.Input(
            "length",
            default=0.0,
            min=0.0,
            max=float(MAX_SECONDS),
            step=0.01,
            tooltip="How long the forked shot is in all, in seconds, 0 to "
            f"{MAX_SECONDS:,}. 0 is as long as the source was planned.",
        ),
    ]
