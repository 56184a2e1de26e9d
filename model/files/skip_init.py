"""Layers without first values, which the weights of a file are about to replace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

DRAWS = (nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_)
"""How torch's linear, convolution and embedding layers begin."""


class SkipInit(TorchFunctionMode):
    """A context in which layers draw no random weights.

    To draw them takes longer than to read a file: five seconds for 1.3 billion.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what is to be filled as it is; do everything else."""
        by_name = kwargs or {}
        if func in DRAWS:
            return by_name["tensor"] if "tensor" in by_name else args[0]
        return func(*args, **by_name)
