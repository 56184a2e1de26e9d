"""Whether a rollout is decoded on a thread of its own, and with how many threads of torch."""

from __future__ import annotations

import os

import torch

from ...stream.lazy.side_thread import ThreadShares
from ...stream.lazy.thread_shares import pass_flops, share_threads
from .host_rollout import HostRollout

SWITCH = "LONGTAKE_DECODE_THREAD"  # 0: decode in turn


def decoding_shares(rollout: HostRollout, vae_device: torch.device) -> ThreadShares | None:
    """The threads of both sides; None to decode in turn, as always on an accelerator."""
    devices = {rollout.model.device.type, vae_device.type}
    if devices != {"cpu"} or os.environ.get(SWITCH) == "0":
        return None
    return share_threads(
        torch.get_num_threads(), pass_flops(rollout.settings, rollout.model.config)
    )
