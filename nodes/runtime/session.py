"""What outlives a prompt: the only module-level state of the nodes, lost with the process."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from ...stream.preview.takes import Takes
from ...stream.rollout.hot_states import HotStates
from .. import host
from .state_memory import StateMemory, resting_budget

EMBEDDINGS_KEPT = 16  # of live edits; 8 MB each for the largest text encoder


class Session:
    """`takes` are what pages watch, `states` those of rollouts that do not run.

    It counts how often live controls changed what a sampler node's widgets give, and remembers
    prompts that were encoded in mid-shot, perhaps on another device than the Prompt Timeline would
    use: the edit that is kept there must be the same bits.
    """

    def __init__(self) -> None:
        self.takes = Takes(host.temp_folder)
        self.states = HotStates(resting_budget)
        self._state_memory: StateMemory | None = None  # once there is a device
        self._altered: Counter[str | None] = Counter()
        self._embeddings: weakref.WeakKeyDictionary[Any, dict[tuple[str, str], Tensor]]
        self._embeddings = weakref.WeakKeyDictionary()

    def reset(self) -> None:
        """Forget everything, as at the end of the process."""
        self.takes.reset()
        self.states.clear(log=False)
        self._state_memory = None
        self._altered.clear()
        self._embeddings.clear()

    def note_altered(self, node_id: str | None) -> None:
        """A live control made something else of a sampler's run than its widgets say."""
        self._altered[node_id] += 1

    def times_altered(self, node_id: str | None) -> int:
        """How often that was; a node that does not know its id takes every sampler's."""
        return self._altered[node_id] if node_id is not None else self._altered.total()

    def state_memory(self, device: torch.device) -> StateMemory:
        """The resting states as one of the host's models, which it unloads as such."""
        self._state_memory = self._state_memory or StateMemory(self.states, device)
        return self._state_memory

    def remember(self, clip: Any, text: str, embedding: Tensor) -> None:
        """Keep the embedding (l, c) of `text`; the oldest one goes when there are too many."""
        known = self._embeddings.setdefault(clip.cond_stage_model, {})
        known[_as_used(clip), text] = embedding
        while len(known) > EMBEDDINGS_KEPT:
            del known[next(iter(known))]

    def embedding(self, clip: Any, text: str) -> Tensor | None:
        """What was remembered for `text` of this very text encoder."""
        return self._embeddings.get(clip.cond_stage_model, {}).get((_as_used(clip), text))


def _as_used(clip: Any) -> str:
    """How a CLIP uses its module: its patches (LoRA), and the layer it stops at."""
    patcher = getattr(clip, "patcher", None)
    return f"{getattr(patcher, 'patches_uuid', None)} {getattr(clip, 'layer_idx', None)}"


session = Session()
