"""Decoding on a thread of its own at the nodes: when, what on which thread, and interrupts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from longtake.headless.events import ChunkDone, Event
from longtake.headless.hosts.stand_in.modules import InterruptProcessingException
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.steps import forget_chunks
from longtake.tests.support.torch_threads import torch_threads

SIDE = "longtake decode"


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    with torch_threads(2):
        yield


@pytest.fixture
def decoded_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that decoded, in order."""
    from longtake.nodes.frames.decoder import HostDecoder

    names: list[str] = []
    feed = HostDecoder.feed

    def watch(self: HostDecoder, latents: torch.Tensor) -> torch.Tensor:
        names.append(threading.current_thread().name)
        return feed(self, latents)

    monkeypatch.setattr(HostDecoder, "feed", watch)
    return names


def is_side(name: str) -> bool:
    return name.startswith(SIDE)


def test_on_a_cpu_chunks_between_first_and_last_are_decoded_beside_and_the_pictures_are_the_same(
    bench: Bench, decoded_on: list[str]
) -> None:
    ours = bench.collect(bench.frames())
    assert [is_side(name) for name in decoded_on] == [False, True, False]
    forget_chunks(bench)
    torch.set_num_threads(1)
    decoded_on.clear()
    torch.testing.assert_close(bench.collect(bench.frames()), ours, rtol=0, atol=1e-6)
    torch.set_num_threads(2)
    assert len(decoded_on) == 3 and not any(map(is_side, decoded_on))


@pytest.mark.some_cases(1)
@pytest.mark.parametrize("case", ["switched off", "one thread", "large model"])
def test_decoding_in_turn(
    bench: Bench, decoded_on: list[str], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    from longtake.stream.lazy import thread_shares

    frames = bench.frames()
    if case == "switched off":
        monkeypatch.setenv("LONGTAKE_DECODE_THREAD", "0")
    elif case == "large model":
        monkeypatch.setattr(thread_shares, "LARGE_PASS_FLOPS", 1.0)
    torch.set_num_threads(1 if case == "one thread" else 2)
    bench.collect(frames)
    torch.set_num_threads(2)
    assert len(decoded_on) == 3 and not any(map(is_side, decoded_on))


def test_one_accelerator_decodes_in_turn_and_a_second_one_meanwhile(bench: Bench) -> None:
    from longtake.nodes.runtime.decoding_threads import decoding_shares

    rollout, _ = bench.rollout()
    assert decoding_shares(rollout, torch.device("cpu")) is not None
    on_card: Any = SimpleNamespace(model=SimpleNamespace(device=torch.device("cuda")))
    assert decoding_shares(on_card, torch.device("cuda", 0)) is None
    beside = decoding_shares(on_card, torch.device("cuda", 1))
    assert beside is not None and (beside.main, beside.side) == (2, 2)
    on_cpu = decoding_shares(on_card, torch.device("cpu"))
    assert on_cpu is not None and (on_cpu.main, on_cpu.side) == (2, 1)


def test_models_are_claimed_on_the_prompt_thread_and_the_vae_never_while_it_decodes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management as management

    from longtake.nodes.frames.decoder import HostDecoder

    claims: list[tuple[str, bool]] = []
    decoding = threading.Event()
    load, feed = management.load_models_gpu, HostDecoder.feed
    frames = bench.frames()

    def watch_load(models: Any, **options: Any) -> None:
        has_vae = any(model is frames.vae.patcher for model in models)
        claims.append((threading.current_thread().name, has_vae and decoding.is_set()))
        load(models, **options)

    def watch_feed(self: HostDecoder, latents: torch.Tensor) -> torch.Tensor:
        decoding.set()
        try:
            return feed(self, latents)
        finally:
            decoding.clear()

    monkeypatch.setattr(management, "load_models_gpu", watch_load)
    monkeypatch.setattr(HostDecoder, "feed", watch_feed)
    bench.collect(frames)
    assert len(claims) == 6  # the model and the VAE for each of three chunks
    assert set(claims) == {(threading.current_thread().name, False)}


def test_previews_and_files_have_the_chunks_in_order(bench: Bench) -> None:
    frames = bench.frames()
    save = {"filename_prefix": "clip", "format": "mp4 (h264)", "crf": 18, "sheet_and_report": True}
    asyncio.run(
        bench.side_by_side(
            ("LongtakePreview", {"frames": frames}),
            ("LongtakeSaveVideo", {"frames": frames, **save}),
        )
    )
    done = [event.chunk for event in bench.events if isinstance(event, ChunkDone)]
    assert done == [0, 1, 2] and frames.report([]).frames == 33


def test_cancel_delivers_what_is_made_and_the_next_run_continues(bench: Bench) -> None:
    whole = bench.collect(bench.frames())
    forget_chunks(bench)
    tell, delivered = bench.state.listener, list[int]()

    def listen(event: Event) -> None:
        tell(event)
        if isinstance(event, ChunkDone):
            delivered.append(event.chunk)
            if event.chunk == 0:
                bench.state.interrupt()

    bench.state.listener = listen
    with pytest.raises(InterruptProcessingException):
        bench.run("LongtakePreview", frames=bench.frames())
    bench.state.listener = tell
    assert delivered == [0] and not bench.state.interrupted
    bench.state.start_prompt()
    again = bench.frames()
    assert torch.equal(bench.collect(again), whole)
    assert again.rollout.resumed_from == 1


def test_an_interrupt_that_the_decoder_sees_ends_the_prompt_and_is_not_left_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's layers check too, on the thread on which they run, and the flag raises once."""
    from longtake.nodes.frames.decoder import HostDecoder

    feed, calls = HostDecoder.feed, list[int]()

    def check(self: HostDecoder, latents: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            bench.state.interrupt()
            bench.state.check_interrupted()
        return feed(self, latents)

    monkeypatch.setattr(HostDecoder, "feed", check)
    with pytest.raises(InterruptProcessingException):
        bench.collect(bench.frames())
    assert not bench.state.interrupted
