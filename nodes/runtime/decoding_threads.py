"""Whether a rollout is decoded on a thread of its own, and with how many threads of torch.

It is where decoding has a device of its own, and on a CPU where a small model leaves threads idle.
One accelerator does both in turn.
"""

from __future__ import annotations

import os

import torch

from ...stream.lazy.side_thread import ThreadShares
from ...stream.lazy.thread_shares import pass_flops, share_beside_device, share_threads
from .. import host
from .host_rollout import HostRollout

SWITCH = "LONGTAKE_DECODE_THREAD"  # 0: decode in turn


def decoding_shares(rollout: HostRollout, vae_device: torch.device) -> ThreadShares | None:
    """The threads of both sides; None to decode in turn."""
    device, threads = rollout.model.device, torch.get_num_threads()
    if os.environ.get(SWITCH) == "0":
        return None
    if not host.same_device(device, vae_device):
        return share_beside_device(threads, decodes_on_cpu=vae_device.type == "cpu")
    if device.type != "cpu":
        return None
    return share_threads(threads, pass_flops(rollout.settings, rollout.model.config))
