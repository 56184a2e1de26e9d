"""The devices that the host lists, and who computes on them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache

import comfy.model_management
import torch

from ...errors import BadInput

DEFAULT, CPU = "default", "cpu"
WITH_CURRENT_DEVICE = ("cuda", "xpu")


def device_names() -> list[str]:
    """`default`, `cpu`, and `gpu:0`, `gpu:1`, ... where there are several, as core nodes say it."""
    accelerators = _accelerators()
    numbered = [f"gpu:{number}" for number in range(len(accelerators))]
    return [DEFAULT, CPU, *(numbered if len(accelerators) > 1 else ())]


def device_named(name: str) -> torch.device | None:
    """The device of that name, None for `default`; BadInput for one that is not here."""
    if name not in device_names():
        raise BadInput(
            f"This computer has no device {name!r}; choose {' or '.join(device_names())}."
        )
    if name == DEFAULT:
        return None
    return torch.device(CPU) if name == CPU else _accelerators()[int(name.removeprefix("gpu:"))]


def same_device(one: torch.device, other: torch.device) -> bool:
    """Whether both are one device; a device without a number is the first of its kind."""
    return (one.type, one.index or 0) == (other.type, other.index or 0)


@contextmanager
def computing_on(device: torch.device) -> Iterator[None]:
    """Compute on an accelerator beside the host's thread, whose claims there wait meanwhile.

    A claim may unload what computes. Some kernels run on the current device, whatever their
    tensors say, so the device becomes the thread's current one. Nothing is unloaded from a CPU.
    """
    with ExitStack() as stack:
        for lock in device_locks([device]):
            stack.enter_context(lock)
        stack.enter_context(as_current(device))
        yield


def device_locks(devices: Iterable[torch.device]) -> list[threading.RLock]:
    """A lock for each accelerator, always in the same order."""
    keys = {(device.type, device.index or 0) for device in devices if device.type != CPU}
    return [_lock(*key) for key in sorted(keys)]


@cache
def _lock(kind: str, number: int) -> threading.RLock:
    return threading.RLock()


def as_current(device: torch.device) -> AbstractContextManager[object]:
    """Make a device the thread's current one, whose stream the host's copies of weights order."""
    if device.type not in WITH_CURRENT_DEVICE or device.index is None:
        return nullcontext()
    current: AbstractContextManager[object] = torch.get_device_module(device).device(device)
    return current


def _accelerators() -> list[torch.device]:
    """All that the host can use; older cores list only the one that they use."""
    list_all = getattr(comfy.model_management, "get_all_torch_devices", None)
    devices = [comfy.model_management.get_torch_device()] if list_all is None else list_all()
    return [device for device in devices if device.type != CPU]
