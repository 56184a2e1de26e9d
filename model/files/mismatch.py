"""How the tensors of a file differ from those of a module, in words without torch's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor


def mismatch(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], stored: Callable[[str], str] = str
) -> str:
    """What is missing in `state`, misshapen or unknown, as half a sentence; empty if nothing is.

    The first tensor of each kind is named, as `stored` calls it.
    """
    missing = [stored(name) for name in own if name not in state]
    misshapen = [
        f"{stored(name)}: {list(state[name].shape)} in place of {list(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    unknown = [stored(name) for name in state if name not in own]
    kinds = (
        _count(missing, "is missing", "are missing"),
        _count(misshapen, "has another shape", "have another shape"),
        _count(unknown, "has no place in it", "have no place in it"),
    )
    return ", ".join(filter(None, kinds))


def _count(names: list[str], one: str, several: str) -> str:
    if not names:
        return ""
    if len(names) == 1:
        return f"1 tensor {one} ({names[0]})"
    return f"{len(names)} tensors {several} (the first: {names[0]})"
