"""Rollout Info: what a shot is made of, what of it exists, and the tree of its forks."""

from __future__ import annotations

import time
from typing import Any

from comfy_api.latest import io, ui

from ...stream.journal.cleanup import usage
from ...stream.journal.fork_tree import drawn, fork_tree
from ...stream.journal.records import Record, described, records
from ...stream.timecode import time_label
from ...units import byte_size
from .. import categories, host, sockets
from ..runtime.host_rollout import HostRollout
from ..schema import build
from .derive import time_of


class RolloutInfo(io.ComfyNode):
    """ROLLOUT as text in the node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeRolloutInfo",
            display_name="Rollout Info",
            category=categories.ROLLOUT,
            description="Says what a shot is made of, how much of it exists, what it takes on "
            "disk, and the tree of its forks. Makes nothing; it tells of the moment it runs.",
            search_aliases=["metadata", "history", "fork tree", "inspect rollout"],
            is_output_node=True,
            inputs=[sockets.Rollout.Input("rollout", tooltip="The shot to look at.")],
            outputs=[],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> float:
        """Never the same: other rollouts come and go without the graph changing."""
        return time.monotonic()

    @classmethod
    async def execute(cls, rollout: HostRollout) -> io.NodeOutput:
        """Look at the settings and at the journal."""
        text = "\n".join([*facts_of(rollout), "", *forks_of(rollout)])
        host.show_status(cls.hidden.unique_id, text)
        return io.NodeOutput(ui=ui.PreviewText(text))


def facts_of(rollout: HostRollout) -> list[str]:
    """The shot itself, a line each."""
    settings, stored = rollout.settings, rollout.spec.stored_chunks()
    length = "until Stop" if rollout.frames is None else time_label(rollout.frames / rollout.fps)
    count = "" if rollout.spec.planned_chunks is None else f" of {rollout.spec.planned_chunks}"
    lines = [
        f"Rollout {rollout.id}",
        f"Length {length}, {stored}{count} chunks are made",
        f"Schedule {settings.schedule.chunk_frames} latent frames a chunk, "
        f"{type(settings.solver).__name__}, {settings.cache}",
    ]
    record = _record(rollout)
    for name in ("prompts", "seeds", "guidance"):
        lines += [
            f"{name.capitalize()} from {time_label(time_of(rollout, start))}: {value}"
            for start, value in record.facts[name]
        ]
    for start, identity in rollout.spec.chain.makers.later:
        lines.append(f"Model from {time_label(time_of(rollout, start))}: {identity[:8]}")
    return lines


def forks_of(rollout: HostRollout) -> list[str]:
    """The tree of all rollouts that begin as this one, and what they take on disk."""
    now = usage(rollout.spec.journal)
    own = _record(rollout)
    others = [one for one in now.found if one.id != own.id]
    found = [*others, own] if own.keys else others
    keys = set[str]().union(*(one.owned for one in found if one.keys[:1] == own.keys[:1]))
    size = byte_size(sum(now.chunks.get(key, 0) for key in keys))
    head = f"Forks ({size} on disk, of {byte_size(now.total_bytes)} for all rollouts):"
    return [head, *drawn(fork_tree(found, own), own.id)]


def _record(rollout: HostRollout) -> Record:
    """What a record of this rollout says, or would say, of what is there now."""
    known = {one.id: one for one in records(rollout.spec.journal)}.get(rollout.id)
    stored = range(rollout.spec.stored_chunks())
    keys = tuple(rollout.spec.key(index) for index in stored)
    frames = tuple(rollout.span(index).count for index in stored)
    owned = frozenset(keys) | (known.owned if known else frozenset())
    channels = rollout.model.config.out_channels
    facts = described(rollout.settings, channels=channels, fps=rollout.fps, lock=rollout.id)
    return Record(rollout.id, facts, keys, frames, owned, known.used_s if known else 0.0)
