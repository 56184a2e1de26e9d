"""Steps that tests of several nodes share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from longtake.headless.events import ChunkDone, Event
from longtake.model.families.table import BY_KEY
from longtake.tests.support.node_bench import Bench


def ask_at(bench: Bench, chunk: int, ask: Callable[[], None]) -> None:
    """Call `ask` when that chunk has been decoded."""
    tell = bench.state.listener

    def listen(event: Event) -> None:
        tell(event)
        if isinstance(event, ChunkDone) and event.chunk == chunk:
            bench.state.listener = tell
            ask()

    bench.state.listener = listen


def pictures(bench: Bench, frames: Any) -> torch.Tensor:
    """All pictures of a stream."""
    return bench.collect(frames)


def forget_chunks(bench: Bench) -> None:
    for path in (bench.state.folders["output"] / "longtake" / ".rollouts").glob("*.safetensors"):
        path.unlink()


def demo_as(bench: Bench, key: str) -> Any:
    """The demo's MODEL, taken for one of that family."""
    from longtake.nodes.models.model_facts import attach_family

    model = bench.run("LongtakeLoadDemoModel")[0]
    attach_family(model, BY_KEY[key], "by its name")
    return model
