"""What a take says of itself: the records that its manifest and its events are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..rollout.edit_queue import Edit

VERSION = 1
TAKE_EVENT = "longtake.take"
CHUNK_EVENT = "longtake.take.chunk"

End = Literal["done", "stopped", "interrupted", "error"]
JsonObject = dict[str, Any]
Emit = Callable[[str, JsonObject], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be made, known before anything is; None where it runs until stopped."""

    frames: int | None
    seconds: float | None
    chunks: int | None
    kv_bytes: int
    free_bytes: int
    fits: bool
    text: str
    decode_bytes: int | None = None  # about; None where no decoder is known yet


@dataclass(frozen=True, slots=True)
class Shot:
    """Pictures to come: frames per second, size in pixels, how many (None: until stopped)."""

    fps: float
    width: int
    height: int
    total_frames: int | None = None
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """The node that made a take, in which prompt, and for which browser page (websocket id)."""

    node_id: str
    display_node_id: str
    prompt_id: str
    workflow_id: str | None = None  # of the canvas; node ids are unique within one only
    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class TakeStats:
    """How the rollout goes, in seconds and bytes; None means unknown."""

    first_frame_s: float | None = None
    frames_per_s: float | None = None
    eta_s: float | None = None
    chunk_p95_s: float | None = None
    kv_bytes: int | None = None
    kv_bytes_planned: int | None = None
    drift: float | None = None
    resumed_from_s: float | None = None
    dense_fallbacks: int | None = None
    attention_density: float | None = None
    ann_recall: float | None = None
    paused_s: float | None = None
    kv_on_host: bool = False

    def to_json(self) -> JsonObject:
        """Every field; JSON cannot hold numbers that are not finite, so they become null."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class TakeFile:
    """A saved file of the same frames, as the host names it to the browser."""

    filename: str
    subfolder: str
    type: str
    role: str


@dataclass(frozen=True, slots=True)
class PromptChange:
    """From this frame on, this prompt."""

    frame: int
    text: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended; after a cancel, the second that the next run goes on at."""

    state: End
    message: str | None = None
    resume_at_s: float | None = None


@dataclass(slots=True)
class TakeRecord:
    """All of a take but its frames."""

    token: str
    shot: Shot
    origin: Origin
    prompts: list[PromptChange] = field(default_factory=list)
    files: list[TakeFile] = field(default_factory=list)
    stats: TakeStats = TakeStats()
    ending: Ending | None = None

    @property
    def head(self) -> JsonObject:
        """Which take this is; begins every message about it."""
        return {
            "v": VERSION,
            "take": self.token,
            "node_id": self.origin.node_id,
            "display_node_id": self.origin.display_node_id,
            "prompt_id": self.origin.prompt_id,
            "workflow_id": self.origin.workflow_id,
        }

    def to_json(self, state: str, edits: Sequence[Edit], control_rev: int) -> JsonObject:
        """The manifest without what depends on the chunks."""
        ending = self.ending or Ending("done")
        return {
            **self.head,
            "control_rev": control_rev,
            "state": state,
            "fps": self.shot.fps,
            "width": self.shot.width,
            "height": self.shot.height,
            "total_frames": self.shot.total_frames,
            "prompt_changes": [_change_json(change, edits) for change in self.prompts],
            "edits": [asdict(edit) for edit in edits],
            "stats": self.stats.to_json(),
            "resume_at_s": ending.resume_at_s,
            "message": ending.message,
            "plan": asdict(self.shot.plan) if self.shot.plan else None,
            "files": [asdict(file) for file in self.files],
        }


def _change_json(change: PromptChange, edits: Sequence[Edit]) -> JsonObject:
    edited = any(edit.text is not None and edit.first_frame == change.frame for edit in edits)
    return {"frame": change.frame, "text": change.text, "edited": edited}
