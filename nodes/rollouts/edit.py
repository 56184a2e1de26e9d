"""Fork, Rewind or Continue: a different, a shorter or a longer version of a shot."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...stream.rollout.live.edit_queue import MAX_GUIDANCE
from .. import categories, sockets
from ..length import MAX_SECONDS, MAX_SEED
from ..runtime.host_rollout import HostRollout
from ..runtime.session import session
from ..schema import build
from ..validation import refuses
from .actions import ACTIONS, FORK, KEEP, RolloutEdit, check_change


@refuses(check_change)
class EditRollout(io.ComfyNode):
    """ROLLOUT to another ROLLOUT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeEditRollout",
            display_name="Fork, Rewind or Continue",
            category=categories.ROLLOUT,
            description="Makes a new version of a shot: different from a time on (fork), shorter "
            "(rewind) or longer (continue). Shared chunks are made and stored once, and the source "
            "stays unchanged.",
            search_aliases=["branch", "variation", "undo", "trim", "extend video", "longer",
                            "alternative"],
            inputs=[*_times(), *_changes()],
            outputs=[sockets.Rollout.Output(display_name="rollout")],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(  # noqa: PLR0913
        cls,
        rollout: HostRollout,
        action: str,
        at: float,
        more: float,
        new_prompt: str,
        new_seed: int,
        new_guidance: float,
        length: float,
    ) -> io.NodeOutput:
        """Change the settings; chunks are made when an output asks for them."""
        edit = RolloutEdit(at, more, new_prompt, new_seed, new_guidance, length)
        return io.NodeOutput(ACTIONS[action](rollout, edit, cls.hidden.unique_id))

    @classmethod
    def fingerprint_inputs(cls, **widgets: Any) -> int:
        """Change after a stop or a live edit, so that the host runs the node again."""
        return session.times_altered(cls.hidden.unique_id)


def _times() -> list[io.Input]:
    return [
        sockets.Rollout.Input(
            "rollout", tooltip="The shot to change: from the sampler, Load Rollout or this node."
        ),
        io.Combo.Input(
            "action",
            options=[*ACTIONS],
            default=FORK,
            tooltip="`fork`: the same until `at`, then with a new prompt, seed or guidance. "
            "`rewind`: cut off at `at`; what is cut stays on disk. `continue`: `more` seconds "
            "longer, under the prompt in force at the end.",
        ),
        io.Float.Input(
            "at",
            default=-1.0,
            min=-1.0,
            max=float(MAX_SECONDS),
            step=0.01,
            tooltip="For `fork` and `rewind`: the time in seconds, 0 to "
            f"{MAX_SECONDS:,}, rounded to the nearest chunk. -1 is the end of the shot.",
        ),
        io.Float.Input(
            "more",
            default=5.0,
            min=0.01,
            max=float(MAX_SECONDS),
            step=0.01,
            tooltip="For `continue`: how much longer, in seconds, 0.01 to "
            f"{MAX_SECONDS:,}, rounded up to whole chunks.",
        ),
    ]


def _changes() -> list[io.Input]:
    return [
        io.String.Input(
            "new_prompt",
            multiline=True,
            default="",
            tooltip="For `fork`: the prompt from there to the end. It replaces all later prompts. "
            "Empty keeps them.",
        ),
        io.Int.Input(
            "new_seed",
            default=KEEP,
            min=KEEP,
            max=MAX_SEED,
            control_after_generate=io.ControlAfterGenerate.fixed,
            tooltip="For `fork`: the seed from there on, 0 to 2^64 - 1 (a whole number). -1 keeps "
            "the source's.",
        ),
        io.Float.Input(
            "new_guidance",
            default=float(KEEP),
            min=float(KEEP),
            max=MAX_GUIDANCE,
            step=0.1,
            advanced=True,
            tooltip="For `fork`: the guidance strength from there on, 0 to 30 (no unit): cfg, or a "
            "factor on a connected History Guidance. -1 keeps the source's.",
        ),
        io.Float.Input(
            "length",
            default=0.0,
            min=0.0,
            max=float(MAX_SECONDS),
            step=0.01,
            advanced=True,
            tooltip="For `fork`: the total length in seconds, 0 to "
            f"{MAX_SECONDS:,}. 0 is the planned length of the source.",
        ),
    ]
