"""State that outlives a prompt: the only module-level state of the nodes, lost with the process."""

from __future__ import annotations

import os
import weakref
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from ...stream.journal.journal import Journal
from ...stream.journal.shared_files import open_journal
from ...stream.preview.takes import Takes
from ...stream.rollout.hot_states import HotStates
from ...stream.store.opening import VARIABLE, open_store
from ...stream.store.sharing import RowLease, Sharing
from .. import host
from .seams import Seams
from .state_memory import StateMemory, resting_budget
from .work_factors import WorkFactors

MAX_EMBEDDINGS = 16  # of live edits; 8 MB each for the largest text encoder


class Session:
    """`takes` are shown in previews; `states` are the resting states of rollouts.

    `seams` are pictures from which cancelled stages go on.

    The session counts how often live controls altered a sampler's result. It also remembers the
    embeddings of live prompt edits: a kept edit must give the same bits, even where the Prompt
    Timeline encodes on another device.
    """

    def __init__(self) -> None:
        self.takes = Takes(host.temp_folder)
        self.states = HotStates(resting_budget)
        self.work_factors = WorkFactors()
        self.seams = Seams()
        self._state_memory: StateMemory | None = None  # once there is a device
        self._sharing: Sharing | None = None  # once a rollout needs the store
        self._store_url = ""
        self._altered: Counter[str | None] = Counter()
        self._embeddings: weakref.WeakKeyDictionary[Any, dict[tuple[str, str], Tensor]]
        self._embeddings = weakref.WeakKeyDictionary()

    def reset(self) -> None:
        """Forget everything, as at the start of the process."""
        self.takes.reset()
        self.states.clear(log=False)
        self._state_memory = None
        self.work_factors = WorkFactors()
        self.seams.clear()
        self.close_store()
        self._altered.clear()
        self._embeddings.clear()

    def journal(self) -> Journal:
        """The host's journal, in the store that LONGTAKE_STORE names if there is one."""
        return open_journal(host.rollout_folder(), self.sharing())

    def sharing(self) -> Sharing | None:
        """This process's use of the store; None without one, StoreLost if it cannot be used."""
        url = os.environ.get(VARIABLE, "")
        if url != self._store_url:
            self.close_store()
            self._sharing = Sharing(open_store(url)) if url else None
            self._store_url = url
        return self._sharing

    def hold_lease(self, row: str, number: int) -> None:
        """Make the next rollouts as lease `number` of a batch's row; earlier leases of it end."""
        sharing = self.sharing()
        if sharing is not None:
            sharing.hold(RowLease(row, number))

    def settle_store(self) -> None:
        """Wait until the store has what was made; StorageError if a batch's lease has ended."""
        if self._sharing is not None:
            self._sharing.settle()

    def close_store(self) -> None:
        """Send what waits for the store, and leave it."""
        sharing, self._sharing, self._store_url = self._sharing, None, ""
        if sharing is not None:
            sharing.close()

    def note_altered(self, node_id: str | None) -> None:
        """Note that a live control altered the result of a sampler node."""
        self._altered[node_id] += 1

    def times_altered(self, node_id: str | None) -> int:
        """How often `note_altered` was called for a node, or for all nodes if the id is None."""
        return self._altered[node_id] if node_id is not None else self._altered.total()

    def state_memory(self, device: torch.device) -> StateMemory:
        """The resting states as one of the host's models."""
        self._state_memory = self._state_memory or StateMemory(self.states, device)
        return self._state_memory

    def remember(self, clip: Any, text: str, embedding: Tensor) -> None:
        """Keep the embedding (l, c) of `text`, and drop the oldest where there are too many."""
        embeddings = self._embeddings.setdefault(clip.cond_stage_model, {})
        embeddings[_usage(clip), text] = embedding
        while len(embeddings) > MAX_EMBEDDINGS:
            del embeddings[next(iter(embeddings))]

    def embedding(self, clip: Any, text: str) -> Tensor | None:
        """The embedding of `text` by the same text encoder, or None."""
        return self._embeddings.get(clip.cond_stage_model, {}).get((_usage(clip), text))


def _usage(clip: Any) -> str:
    """Identify how a CLIP uses its module: its patches (LoRA) and its last layer."""
    patcher = getattr(clip, "patcher", None)
    return f"{getattr(patcher, 'patches_uuid', None)} {getattr(clip, 'layer_idx', None)}"


session = Session()
