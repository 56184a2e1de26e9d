"""Which of the host's layers our products may replace."""

from __future__ import annotations

import pytest
from torch import nn

from longtake.tests.support.node_bench import Bench

CHANGES = ("comfy_cast_weights", "weight_function", "bias_function")


class HostLinear(nn.Linear):
    """The host's layer: it inherits its forward, and says what is changed."""

    comfy_cast_weights = False
    weight_function: list[object] = []
    bias_function: list[object] = []


class UntoldLinear(nn.Linear):
    """One of a host that keeps its changes elsewhere."""


def test_a_layer_without_changes_is_plain(bench: Bench) -> None:
    from longtake.nodes import host

    assert host.is_plain_linear(HostLinear(2, 2))


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_layer_is_not_plain(bench: Bench, name: str) -> None:
    from longtake.nodes import host

    layer = HostLinear(2, 2)
    setattr(layer, name, [1])
    assert not host.is_plain_linear(layer)


def test_a_layer_that_tells_nothing_of_changes_computes_by_itself(bench: Bench) -> None:
    """It ended a run with an AttributeError."""
    from longtake.nodes import host

    assert not host.is_plain_linear(UntoldLinear(2, 2))
