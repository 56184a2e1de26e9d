"""Measures the memory that code takes by running the code without numbers.

On the `meta` device tensors have shapes and lifetimes but no content, so a pass of a large model
costs milliseconds. Counting what is alive at once gives the peak of the real pass, from the same
code. A kernel's own workspace is counted only if `scratch` gives it.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from .anyflow.coarse_patches import COARSE_LAYER
from .config import DiTConfig
from .dit import WanDiT
from .shape_memo import DispatchMode, ShapeMemo, tensors_in

META = torch.device("meta")


def shape_only(config: DiTConfig, dtype: torch.dtype) -> WanDiT:
    """A model of that shape without weights."""
    with META:
        tree = WanDiT(config).to(dtype)
    for embedding in _patch_embeddings(tree):
        embedding.float()  # as hosts keep it: `predict` feeds it float32
    return tree


def _patch_embeddings(tree: Any) -> list[nn.Module]:
    """The layers with one of which each pass begins."""
    coarse = getattr(tree, COARSE_LAYER, None)
    return [tree.patch_embedding, *([] if coarse is None else [coarse])]


def first_layers(tree: WanDiT, layers: int) -> WanDiT:
    """The same model with its first `layers` alone; all weights are shared."""
    shallow = copy.copy(tree)
    shallow._modules = {**tree._modules, "blocks": tree.blocks[:layers]}
    return shallow


Scratch = Callable[[Any, Sequence[Any], Any], int]
"""Bytes that a kernel takes while it runs, beside what it makes: of operator, arguments, result."""


Place = tuple[int, str]
"""The number of a pass, and a part of it."""

Peaks = dict[Place, int]
"""The most bytes at once, by place."""


def peak_bytes(
    run: Callable[[], object], scratch: Scratch | None = None, shapes: ShapeMemo | None = None
) -> int:
    """The most bytes that tensors made by `run` take at once; those given to it do not count.

    `shapes` remembers the shapes of operations from run to run.
    """
    live = _LiveBytes(scratch, shapes or ShapeMemo())
    _rehearse(run, live)
    return max(live.peaks.values())


def peaks_by_place(
    run: Callable[[], object], tree: WanDiT, scratch: Scratch | None, shapes: ShapeMemo
) -> Peaks:
    """The most bytes at once in each part of the passes of `tree` that `run` makes.

    A layer's attention is a part, and the rest of the layer; the first layer, the last one and
    those between have parts of their own. What a part takes grows evenly with the number of layers
    and with the length of the history, though the largest part may change.
    """
    live = _LiveBytes(scratch, shapes)
    hooks = [
        embedding.register_forward_pre_hook(lambda *_: live.begin_pass())
        for embedding in _patch_embeddings(tree)
    ]
    blocks: list[Any] = [*tree.blocks]
    for index, block in enumerate(blocks):
        which = "first" if index == 0 else "last" if index + 1 == len(blocks) else "between"
        for module, part in ((block.norm1, "attention"), (block.self_attn.o, "rest")):
            enter = partial(live.enter, f"{which}, {part}")
            hooks.append(module.register_forward_pre_hook(enter))
    try:
        _rehearse(run, live)
    finally:
        for hook in hooks:
            hook.remove()
    return live.peaks


def _rehearse(run: Callable[[], object], live: _LiveBytes) -> None:
    with torch.no_grad(), live:
        run()


def convolution_scratch(func: Any, args: Sequence[Any], result: Any) -> int:
    """The copy of its input that a convolution's kernel makes in a layout of its own (oneDNN)."""
    is_convolution = func is torch.ops.aten.convolution.default
    return args[0].nbytes if is_convolution else 0


class _LiveBytes(DispatchMode):
    """Counts the storages that come and go."""

    def __init__(self, scratch: Scratch | None, shapes: ShapeMemo) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no annotations
        self.peaks: Peaks = {(0, "before"): 0}
        self._place: Place = (0, "before")
        self._scratch, self._shapes = scratch, shapes
        self._now = 0
        self._known: dict[int, weakref.finalize[..., torch.UntypedStorage]] = {}

    def begin_pass(self) -> None:
        """Note that another pass begins."""
        self._place = self._place[0] + 1, "before"
        self._raise_peak(self._now)

    def enter(self, part: str, *_: object) -> None:
        """Note that a part of the pass begins."""
        self._place = self._place[0], part
        self._raise_peak(self._now)

    def _raise_peak(self, count: int) -> None:
        self.peaks[self._place] = max(self.peaks.get(self._place, 0), count)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func.is_view:  # makes nothing
            return func(*args, **named)
        result = self._shapes.repeat(func, args, named)
        if result is None:  # may share storages with its arguments
            for argument in tensors_in((*args, *named.values())):
                self._note(argument.untyped_storage(), 0)
            result = self._shapes.record(func, args, named)
        if result is not named.get("out") and (not args or result is not args[0]):
            self._note_result(result)
        beside = self._scratch(func, args, result) if self._scratch else 0
        self._raise_peak(self._now + beside)
        return result

    def _note_result(self, result: object) -> None:
        for tensor in tensors_in(result):
            storage = tensor.untyped_storage()
            self._note(storage, storage.nbytes())

    def _note(self, storage: torch.UntypedStorage, count: int) -> None:
        """A storage seen for the first time counts from now until it is freed."""
        key = storage._cdata
        if key not in self._known:
            self._now += count
            self._known[key] = weakref.finalize(storage, self._free_bytes, key, count)

    def _free_bytes(self, key: int, count: int) -> None:
        del self._known[key]
        self._now -= count
