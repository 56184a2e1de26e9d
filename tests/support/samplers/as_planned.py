"""Runs as plans count them: what a processor or a luckier run would do otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from longtake.attention.cache.rotated_keys import RotatedKeys


@contextmanager
def resuming_at_every_chunk() -> Iterator[None]:
    """A run that has to rotate all keys for every chunk, as the first one after a resume does."""
    with pytest.MonkeyPatch.context() as patch:
        follow = RotatedKeys.follow

        def forget(keys: RotatedKeys) -> None:
            follow(keys)
            keys._forget_places()

        patch.setattr(RotatedKeys, "follow", forget)
        yield


@contextmanager
def without_onednn() -> Iterator[None]:
    """No oneDNN: its bfloat16 products take scratch on processors without such an instruction."""
    (enabled, *_) = torch.backends.mkldnn.set_flags(_enabled=False)
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(_enabled=enabled)
