"""What the stand-in for CUDA refuses and sees, each provoked once.

`python -m longtake.tests.support.device.checks` writes, by name, the error or the faults, as JSON.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Sequence

import torch

from longtake.tests.support.device.cuda import begin
from longtake.tests.support.device.queues import DEVICE

GPU = torch.device("cuda", 0)


def two_devices() -> object:
    """A sum of tensors of both memories."""
    return torch.ones(2, device=GPU) + torch.ones(2)


def two_cards() -> object:
    return torch.ones(2, device=GPU) * torch.ones(2, device="cuda:1")


def a_number() -> object:
    """A number of main memory is allowed."""
    return (torch.ones(2, device=GPU) + torch.tensor(2.0)).tolist()


def numpy() -> object:
    return torch.ones(2, device=GPU).numpy()


def unwritten() -> object:
    return torch.empty(2, device=GPU).isnan().tolist()


def read_too_early() -> object:
    """What has come of a copy that nobody waited for, and then of the same."""
    here = torch.ones(1, device=GPU).to("cpu", non_blocking=True)
    before = here.isnan().tolist()
    torch.cuda.synchronize()
    return before, here.tolist()


def written_too_early() -> object:
    """The source of a queued copy changes."""
    source = torch.ones(2).pin_memory()
    copy = source.to(GPU, non_blocking=True)
    source.zero_()
    return copy.sum().item()


def unordered() -> object:
    """A stream writes what another one has just written."""
    x = torch.zeros(3, device=GPU)
    with torch.cuda.stream(torch.cuda.Stream()):
        x.add_(1)
    return None


def ordered() -> object:
    """The same, after it has waited; and the memory is kept until it is done."""
    x, stream = torch.zeros(3, device=GPU), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        x.add_(1)
    x.record_stream(stream)
    return None


def freed_too_early() -> object:
    x, stream = torch.zeros(3, device=GPU), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        x.add_(1)
    return None


def no_pictures() -> object:
    """None are enlarged with a filter against aliasing."""
    none = torch.ones(0, 3, 4, 4, device=GPU)
    return torch.nn.functional.interpolate(none, (8, 8), mode="bicubic", antialias=True).shape


CHECKS: tuple[Callable[[], object], ...] = (
    two_devices, two_cards, a_number, numpy, unwritten, read_too_early, written_too_early,
    unordered, ordered, freed_too_early, no_pictures,
)  # fmt: skip


def outcome(check: Callable[[], object]) -> object:
    """What a check gives: its value, its error, or else the faults."""
    try:
        value = check()
    except RuntimeError as error:
        return str(error)
    gc.collect()
    DEVICE.wait_for_all()
    faults, DEVICE.faults = DEVICE.faults, []
    return faults or value


def main(_: Sequence[str]) -> None:
    begin()
    sys.stdout.write(json.dumps({check.__name__: outcome(check) for check in CHECKS}))


if __name__ == "__main__":
    main(sys.argv[1:])
