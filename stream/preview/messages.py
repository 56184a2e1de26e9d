"""The JSON that describes a take: its manifest and its events."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..drive.drive import DriveState
from ..incoming.inlet import Wish
from ..rollout.live.edit_queue import Edit

VERSION = 1  # as FORMAT in web/player/takes/transport.mjs, which refuses others
TAKE_EVENT = "longtake.take"
CHUNK_EVENT = "longtake.take.chunk"

End = Literal["done", "stopped", "interrupted", "error"]
JsonObject = dict[str, Any]
Emit = Callable[[str, JsonObject], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will make and how much memory it takes; None if it runs until stopped."""

    frames: int | None
    seconds: float | None
    chunks: int | None
    kv_bytes: int
    free_bytes: int
    fits: bool
    text: str
    decode_bytes: int | None = None  # approximate; None before a decoder is known
    decode_device: str | None = None  # None where the model is, too


@dataclass(frozen=True, slots=True)
class Shot:
    """The pictures of a take: frames per second, size in pixels, number (None: until stopped).

    Frames before `resume_at_s` come from an earlier run (None: all frames are new).
    """

    fps: float
    width: int
    height: int
    total_frames: int | None = None
    plan: Plan | None = None
    resume_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """The node that made a take, its prompt, and the browser page (websocket id) that queued it.

    `refines` is the token of the take whose frames this take shows again, larger or otherwise
    finished; None for a take that stands alone.
    """

    node_id: str
    display_node_id: str
    prompt_id: str
    workflow_id: str | None = None  # node ids are unique only within a workflow
    client_id: str | None = None
    refines: str | None = None

    @property
    def place(self) -> tuple[str | None, ...]:
        """The node on one page, whichever prompt it ran in; refined frames have their own."""
        role = None if self.refines is None else "refined"
        return self.node_id, self.workflow_id, self.client_id, role

    def to_json(self) -> JsonObject:
        """What a page must know to show the take in the right node, all but its own id."""
        return {
            "node_id": self.node_id,
            "display_node_id": self.display_node_id,
            "prompt_id": self.prompt_id,
            "workflow_id": self.workflow_id,
            "refines": self.refines,
        }


@dataclass(frozen=True, slots=True)
class TakeStats:
    """Measurements of a run in seconds and bytes; None means unknown.

    `memory_rules` names the rules against drift that act, if any. `live_dropped` counts frames of a
    live input that came while chunks were made, and were left out. `stream/latency.py` defines the
    four latency figures. `generator_factor` and `stage_factor` are seconds of work for a second of
    video, of the generator and of what enlarges or refines behind it. `guidance` and `lora` are the
    numbers of the newest chunk that a live edit may change.
    """

    first_frame_s: float | None = None
    frames_per_s: float | None = None
    eta_s: float | None = None
    chunk_p95_s: float | None = None
    block_latency_s: float | None = None
    real_time_factor: float | None = None
    continuous_play_rate: float | None = None
    switch_cost_s: float | None = None
    generator_factor: float | None = None
    stage_factor: float | None = None
    kv_bytes: int | None = None
    kv_bytes_planned: int | None = None
    drift: float | None = None
    resumed_from_s: float | None = None
    dense_fallbacks: int | None = None
    attention_density: float | None = None
    ann_recall: float | None = None
    paused_s: float | None = None
    kv_on_host: bool = False
    memory_rules: str | None = None
    live_dropped: int | None = None
    guidance: float | None = None
    lora: float | None = None

    def to_json(self) -> JsonObject:
        """Every field; numbers that are not finite become null."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class TakeFile:
    """A saved file of the same frames, as the host identifies it for the browser."""

    filename: str
    subfolder: str
    type: str
    role: str


@dataclass(frozen=True, slots=True)
class PromptChange:
    """A prompt and the frame from which it holds."""

    frame: int
    text: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a take ended; after a cancel, `resume_at_s` is where the next run continues."""

    state: End
    message: str | None = None
    resume_at_s: float | None = None


@dataclass(slots=True)
class TakeRecord:
    """Everything about a take except its frames."""

    token: str
    live: str  # the token of the live address, the same for all takes of a node
    shot: Shot
    origin: Origin
    prompts: list[PromptChange] = field(default_factory=list)
    files: list[TakeFile] = field(default_factory=list)
    stats: TakeStats = TakeStats()
    ending: Ending | None = None
    refined: str | None = None  # the token of the take with the same frames, refined

    @property
    def head(self) -> JsonObject:
        """Identifies the take at the beginning of every message."""
        return {"v": VERSION, "take": self.token, **self.origin.to_json()}

    def to_json(
        self,
        state: str,
        edits: Sequence[Edit],
        control_rev: int,
        drive: DriveState | None = None,
        wish: Wish | None = None,
    ) -> JsonObject:
        """The manifest without the fields that depend on the chunks."""
        ending = self.ending or Ending("done", None, self.shot.resume_at_s)
        return {
            **self.head,
            "control_rev": control_rev,
            "live": self.live,
            "refined": self.refined,
            "state": state,
            "fps": self.shot.fps,
            "width": self.shot.width,
            "height": self.shot.height,
            "total_frames": self.shot.total_frames,
            "prompt_changes": [_change_json(change, edits) for change in self.prompts],
            "edits": [asdict(edit) for edit in edits],
            "drive": asdict(drive) if drive else None,
            "wish": asdict(wish) if wish else None,
            "stats": self.stats.to_json(),
            "resume_at_s": ending.resume_at_s,
            "message": ending.message,
            "plan": asdict(self.shot.plan) if self.shot.plan else None,
            "files": [asdict(file) for file in self.files],
        }


def _change_json(change: PromptChange, edits: Sequence[Edit]) -> JsonObject:
    edited = any(edit.text is not None and edit.first_frame == change.frame for edit in edits)
    return {"frame": change.frame, "text": change.text, "edited": edited}
