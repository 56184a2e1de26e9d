"""Rollout Info: settings, progress and disk use of a shot, and the tree of its forks."""

from __future__ import annotations

import re
import time
from dataclasses import fields
from typing import Any

from comfy_api.latest import io, ui

from ...samplers.settings import RolloutSettings
from ...stream.journal.cleanup import usage
from ...stream.journal.fork_tree import fork_tree, render_tree
from ...stream.journal.records import Record, records, rollout_facts
from ...stream.timecode import time_label
from ...units import byte_size
from .. import categories, host, sockets
from ..runtime.host_rollout import HostRollout
from ..schema import build
from .derive import time_of


class RolloutInfo(io.ComfyNode):
    """ROLLOUT to text in the node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeRolloutInfo",
            display_name="Rollout Info",
            category=categories.ROLLOUT,
            description="Shows a shot's settings, how much of it exists, its disk use and the tree "
            "of its forks, at the moment the node runs. Generates nothing.",
            search_aliases=["metadata", "history", "fork tree", "inspect rollout"],
            is_output_node=True,
            inputs=[sockets.Rollout.Input("rollout", tooltip="The shot to describe.")],
            outputs=[],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> float:
        """Change always: other rollouts come and go without a change of the graph."""
        return time.monotonic()

    @classmethod
    async def execute(cls, rollout: HostRollout) -> io.NodeOutput:
        """Read the settings and the journal."""
        text = "\n".join([*describe_rollout(rollout), "", *describe_forks(rollout)])
        host.show_status(cls.hidden.unique_id, text)
        return io.NodeOutput(ui=ui.PreviewText(text))


def describe_rollout(rollout: HostRollout) -> list[str]:
    """Describe the shot, one fact a line."""
    settings, stored = rollout.settings, rollout.spec.stored_chunks()
    length = "until Stop" if rollout.frames is None else time_label(rollout.frames / rollout.fps)
    count = "" if rollout.spec.planned_chunks is None else f" of {rollout.spec.planned_chunks}"
    lines = [
        f"Rollout {rollout.id}",
        f"Length {length}, {stored}{count} chunks exist",
        f"Schedule {_chunk_sizes(settings)}, solver {in_words(settings.solver)}, "
        f"KV cache {in_words(settings.cache)}",
    ]
    record = _record(rollout)
    for name in ("prompts", "seeds", "guidance"):
        lines += [
            f"{name.capitalize()} from {time_label(time_of(rollout, start))}: {value}"
            for start, value in record.facts[name]
        ]
    for start, identity in rollout.spec.chain.models.later:
        lines.append(f"Model from {time_label(time_of(rollout, start))}: {identity[:8]}")
    return lines


def _chunk_sizes(settings: RolloutSettings) -> str:
    """How long chunks are, and how long a shorter first one is."""
    size = settings.schedule.chunk_frames
    opening = settings.next_chunk(settings.origin + 1) - settings.origin
    first = f" after a first one of {opening}" if opening < size else ""
    return f"{size} latent frames a chunk{first}"


def in_words(value: Any) -> str:
    """Settings as people read them: their kind, and what differs from the usual."""
    kind = re.sub(r"(?<!^)(?=[A-Z])", " ", type(value).__name__).lower()
    facts = ((field, getattr(value, field.name)) for field in fields(value))
    changed = [
        field.name.replace("_", " ") + ("" if now is True else f" {now}")
        for field, now in facts
        if now != field.default
    ]
    return " ".join([kind, *([f"({', '.join(changed)})"] if changed else [])])


def describe_forks(rollout: HostRollout) -> list[str]:
    """Draw the tree of all rollouts with the same beginning, with their disk use."""
    now = usage(rollout.spec.journal)
    own = _record(rollout)
    others = [record for record in now.records if record.id != own.id]
    relatives = [*others, own] if own.keys else others
    family = (record.owned for record in relatives if record.keys[:1] == own.keys[:1])
    keys = set[str]().union(*family)
    size = byte_size(sum(now.chunks.get(key, 0) for key in keys))
    head = f"Forks ({size} on disk, of {byte_size(now.total_bytes)} for all rollouts):"
    return [head, *render_tree(fork_tree(relatives, own), own.id)]


def _record(rollout: HostRollout) -> Record:
    """Build the record of this rollout as of now."""
    known = {record.id: record for record in records(rollout.spec.journal)}.get(rollout.id)
    stored, chain = range(rollout.spec.stored_chunks()), rollout.spec.stored_chain
    keys = tuple(chain.key(index) for index in stored)
    frames = tuple(rollout.span(index).count for index in stored)
    owned = frozenset(keys) | (known.owned if known else frozenset())
    channels = rollout.model.config.out_channels
    facts = rollout_facts(rollout.settings, channels=channels, fps=rollout.fps, lock=rollout.id)
    used_s, inputs = (known.used_s, known.inputs) if known else (0.0, frozenset[str]())
    return Record(rollout.id, facts, keys, frames, owned, used_s, inputs)
