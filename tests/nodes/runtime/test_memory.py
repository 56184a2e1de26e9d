"""KV caches under the host's memory management, on a CPU and on a pretended accelerator."""

from __future__ import annotations

import dataclasses
import gc

import pytest
import torch

from longtake.attention.cache.kv_cache import KVCache
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.steps import ask_at, forget_chunks, pictures


def test_no_kv_cache_outlives_its_run(bench: Bench) -> None:
    """The host keeps ROLLOUT and FRAMES for the next prompt; the memory must not stay with them."""
    frames = bench.frames()
    pictures(bench, frames)
    gc.collect()
    alive = [one for one in gc.get_objects() if type(one) is KVCache]
    assert alive == [] and not frames.rollout.claim.memory.in_use


def test_kv_caches_given_up_between_chunks_are_made_again_with_the_same_bits(bench: Bench) -> None:
    frames = bench.frames()
    memory = frames.rollout.claim.memory
    held: list[int] = []

    def unload() -> None:
        held.append(memory.loaded_size())
        memory.partially_unload(memory.offload_device, 1)  # as the host does for another model
        held.append(memory.loaded_size())

    ask_at(bench, 1, unload)
    unloaded = pictures(bench, frames)
    assert held == [frames.rollout.kv_bytes_planned, 0]
    forget_chunks(bench)
    assert torch.equal(unloaded, pictures(bench, bench.frames()))


def test_a_long_pause_moves_the_kv_cache_to_the_host(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a pretended accelerator: the host's device is told apart by its index."""
    moved: list[str] = []
    move = KVCache.move
    monkeypatch.setattr(KVCache, "move", lambda c, d: moved.append(str(d)) or move(c, d))
    frames = bench.frames()
    memory = frames.rollout.claim.memory
    memory.load_device = torch.device("cpu", 0)
    model = dataclasses.replace(frames.rollout.model, device=memory.load_device)
    frames.rollout.spec = dataclasses.replace(frames.rollout.spec, model=model)
    controls = frames.controls
    controls.long_pause_s = 0.0
    check = bench.state.check_interrupted
    on_host: list[bool] = []

    def look() -> None:
        if controls.state == "paused" and moved:
            on_host.append(frames.rollout.kv_on_host)
            controls.resume()
        check()

    ask_at(bench, 0, controls.pause)
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", look)
    paused = pictures(bench, frames)
    assert on_host[0] and "cpu" in moved and controls.paused_s > 0
    forget_chunks(bench)
    assert torch.equal(paused, pictures(bench, bench.frames()))


def test_a_state_rests_between_prompts_until_the_host_unloads_it(bench: Bench) -> None:
    from longtake.nodes.runtime.session import session

    rollout, _ = bench.rollout(length=33.0)
    bench.collect(rollout, "latent")
    assert len(session.states) == 1 and session.states.bytes > 0
    [longer] = bench.run("LongtakeEditRollout", action="continue", rollout=rollout, more=0.5)
    bench.collect(longer, "latent")
    assert longer.resumed_from == 3 and len(session.states) == 2
    memory = session.state_memory(rollout.model.device)
    assert memory.model_size() == session.states.bytes
    memory.unpatch_model()  # what the host's /free comes down to
    assert len(session.states) == 0 and memory.model_size() == 0


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_a_request_for_a_cards_memory_leaves_resting_states_alone(bench: Bench, kind: str) -> None:
    """As the host makes it: it unloads what does not hold, or does not free, what it wants."""
    from longtake.nodes.runtime.session import session
    from longtake.nodes.runtime.state_memory import StateMemory

    rollout, _ = bench.rollout(length=33.0)
    bench.collect(rollout, "latent")
    memory, wanted = StateMemory(session.states, torch.device(kind)), 80 * 2.0**30
    assert memory.model_size() == 0 and memory.current_loaded_device() != memory.load_device
    assert wanted < memory.loaded_size() < 1e30  # the host's request for everything
    assert memory.partially_unload(memory.offload_device, wanted) >= wanted
    assert len(session.states) == 1
    memory.unpatch_model()
    assert len(session.states) == 0
