"""How the CPU's threads are divided while chunks are made and decoded side by side.

A pass of a small model is too short to keep several threads busy, so decoding beside it is faster
than decoding after it. A large pass uses all threads well: there, decoding in turn is as fast and
shows each chunk earlier. The demo at 192x192 is such a case, on two cores.
"""

from __future__ import annotations

from ...model.forward import ModelConfig
from ...samplers.settings import RolloutSettings
from .side_thread import ThreadShares

LARGE_PASS_FLOPS = 2e9
MIN_THREADS_WITH_ENCODERS = 3


def share_threads(threads: int, flops: float) -> ThreadShares | None:
    """Divide `threads` for passes of so many `flops`; None to decode in turn, with all of them.

    Of three threads or more, one is left to the encoders of video and preview. Nothing is measured
    here: the number of threads changes the last bits of a chunk, so a shot must never change it.
    """
    if threads < 2 or flops >= LARGE_PASS_FLOPS:
        return None
    shared = threads - 1 if threads >= MIN_THREADS_WITH_ENCODERS else threads
    side = max(1, 2 * shared // 5)  # the demo decodes for two fifths of its time
    return ThreadShares(max(1, shared - side), side)


def share_beside_device(threads: int, *, decodes_on_cpu: bool) -> ThreadShares:
    """The threads of both sides where each has a device of its own.

    The processor's threads hardly work for a side on an accelerator. Decoding on the CPU leaves one
    of them to that side.
    """
    return ThreadShares(threads, max(1, threads - 1) if decodes_on_cpu else threads)


def pass_flops(settings: RolloutSettings, config: ModelConfig) -> float:
    """Multiplications and additions of one branch's pass, without those of attention itself."""
    tokens = settings.pass_frames * settings.rows * settings.columns / config.patch**2
    return tokens * config.token_flops
