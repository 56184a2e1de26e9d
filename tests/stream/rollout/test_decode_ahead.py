"""Decoding while the next chunk is made: the bits, files and controls of decoding in turn."""

from __future__ import annotations

import dataclasses
import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.model.vae.protocol import StreamingCoder
from longtake.model.vae.streaming import StreamingDecoder
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.samplers.camera.keys import KeyState
from longtake.samplers.camera.path import STILL_PATH
from longtake.samplers.denoiser import local_denoiser
from longtake.stream.drive.drive import Steer
from longtake.stream.drive.input_log import Mode
from longtake.stream.journal.journal import Journal
from longtake.stream.lazy.frame_chunk import FrameChunk
from longtake.stream.lazy.side_thread import SideThread, ThreadShares
from longtake.stream.lazy.thread_shares import LARGE_PASS_FLOPS, pass_flops, share_threads
from longtake.stream.rollout.frame_stream import FrameStream
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.model_hosts import model_with_hooks
from longtake.tests.support.stream.rollouts import Words
from longtake.tests.support.tiny_model import TINY, random_dit, randomise, settings
from longtake.tests.support.torch_threads import torch_threads

CONFIG = dataclasses.replace(TINY, in_channels=16, out_channels=16)
MODEL = local_denoiser(random_dit(CONFIG), CONFIG)


class Interrupt(BaseException):
    """A host's interrupt."""


class AheadFrames(FrameStream):
    """Decodes on a thread of its own, with one thread of torch on each side."""

    def _open_side(self, decoder: StreamingCoder) -> SideThread:
        return SideThread(ThreadShares(1, 1), lambda interrupted: None)


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage is collected: what a failure leaves must go by itself."""
    gc.disable()
    yield
    gc.enable()


def frames(
    folder: Path, kind: type[FrameStream] = AheadFrames, model: Any = MODEL, **changes: Any
) -> FrameStream:
    spec = RolloutSpec(
        settings(**{"length": 12, **changes}), model, "model", Journal(folder), Words()
    )
    vae = TinyVAE(TinyVAEConfig((4, 4, 4), (4, 4, 4))).eval()
    randomise(vae, 1)
    return kind(Rollout(spec), lambda: StreamingDecoder(vae), 16)


def read_all(
    stream: FrameStream, asks: dict[int, Callable[[FrameStream], None]] | None = None
) -> list[FrameChunk]:
    """Read every chunk; `asks` are called when their chunk is delivered."""
    chunks = []
    for chunk in stream.chunks:
        chunks.append(chunk)
        (asks or {}).get(chunk.index, lambda stream: None)(stream)
    return chunks


def read_in_turn(folder: Path) -> list[FrameChunk]:
    return read_all(frames(folder, FrameStream))


def latents_of(folder: Path) -> dict[str, Tensor]:
    return {path.name: load_file(path)["latents"] for path in folder.glob("*.safetensors")}


def assert_same(ours: list[FrameChunk], expected: list[FrameChunk]) -> None:
    assert [c.index for c in ours] == [c.index for c in expected]
    for a, b in zip(ours, expected, strict=True):
        assert a.first_frame == b.first_frame and a.prompt == b.prompt
        torch.testing.assert_close(a.frames, b.frames, rtol=0, atol=1e-6)  # see `convert_ahead`


def test_the_pictures_and_the_journal_are_those_of_decoding_in_turn(tmp_path: Path) -> None:
    ours = read_all(frames(tmp_path / "ahead"))
    assert_same(ours, read_in_turn(tmp_path / "turn"))
    ahead, turn = latents_of(tmp_path / "ahead"), latents_of(tmp_path / "turn")
    assert len(ahead) == 4 and ahead.keys() == turn.keys()
    assert all(torch.equal(latents, turn[name]) for name, latents in ahead.items())
    assert_same(read_all(frames(tmp_path / "ahead")), ours)  # all from the journal


def test_a_reader_in_mid_stream_gets_the_same_pictures(tmp_path: Path) -> None:
    whole = read_all(frames(tmp_path))
    assert [chunk.first_frame for chunk in whole] == [0, 9, 21, 33]
    for index in range(4):
        chunk = next(frames(tmp_path).chunks.open(index))
        torch.testing.assert_close(chunk.frames, whole[index].frames, rtol=0, atol=1e-6)


@pytest.mark.parametrize("start", [0, 1, 3])
def test_the_first_chunk_is_made_with_all_threads_wherever_a_reader_starts(
    tmp_path: Path, start: int
) -> None:
    """Nothing is decoded beside it; how many threads make a chunk must not depend on readers."""
    made = list[int]()
    model = model_with_hooks(MODEL, on_claim=lambda _: made.append(torch.get_num_threads()))
    with torch_threads(2):
        stream = frames(tmp_path, model=model)
        assert [chunk.index for chunk in stream.chunks.read_from(start)] == [*range(start, 4)]
    assert made == [2, 1, 1, 1]


def test_an_edit_takes_effect_at_the_same_chunk_and_is_seen_at_once(tmp_path: Path) -> None:
    """An edit that comes while chunk 2 is made begins chunk 3, however chunks are decoded."""
    streams: dict[str, FrameStream] = {}
    events: list[str] = []

    def shot(name: str, kind: type[FrameStream]) -> FrameStream:
        def on_claim(kv_bytes: int) -> None:
            claims.append(len(claims))
            events.append(f"made {claims[-1]}")
            if claims[-1] == 2:
                streams[name].controls.set_prompt("77")

        claims: list[int] = []
        stream = frames(
            tmp_path / name, kind, model_with_hooks(MODEL, on_claim=on_claim), length=15
        )
        streams[name] = stream
        return stream

    turn = read_all(shot("turn", FrameStream))
    events.clear()
    ahead = []
    for chunk in shot("ahead", AheadFrames).chunks:
        ahead.append(chunk)
        events.append(f"delivered {chunk.index}")
    assert_same(ahead, turn)
    assert [chunk.prompt for chunk in ahead][2:4] != [ahead[2].prompt] * 2
    place = events.index("delivered 2")
    assert events[place : place + 4] == ["delivered 2", "made 3", "delivered 3", "made 4"]


def test_while_somebody_drives_no_chunk_waits_for_its_pictures(tmp_path: Path) -> None:
    """A key must be seen as soon as possible, so nothing is made before a chunk is delivered."""
    events: list[str] = []
    config = dataclasses.replace(CONFIG, camera="action")
    model = model_with_hooks(
        local_denoiser(random_dit(config), config), on_claim=lambda _: events.append("made")
    )
    stream = frames(tmp_path, model=model, length=18, camera=STILL_PATH)
    drive = stream.controls.drive
    for chunk in stream.chunks:
        events.append(f"delivered {chunk.index}")
        if chunk.index == 1:
            drive.steer(Steer("page", 1, KeyState(frozenset("w"))))
        if chunk.index == 3:
            drive.steer(Steer("page", 2, leave=True))
    driven = events.index("delivered 2")
    assert events[driven : driven + 4] == ["delivered 2", "made", "delivered 3", "made"]
    assert events[: events.index("delivered 1")].count("made") == 3  # one ahead


@pytest.mark.parametrize("mode", ["hold", "re-plan"])
@pytest.mark.parametrize("making", [1, 2, 3])
def test_no_chunk_waits_for_a_driver_to_see_what_is_not_delivered(
    tmp_path: Path, making: int, mode: Mode
) -> None:
    """Somebody begins to drive while a chunk is made and the one before it is still decoded."""
    config = dataclasses.replace(CONFIG, camera="action")
    shown, claims, messages = [0], list[int](), list[Steer]()
    frees = threading.Event()

    def say(**more: Any) -> None:
        number = len(messages) + 1
        messages.append(Steer("page", number, mode=mode, shown=shown[0], **more))
        stream.controls.drive.steer(messages[-1])

    def free() -> None:
        frees.set()
        say(leave=True)

    def on_claim(kv_bytes: int) -> None:
        claims.append(kv_bytes)
        if len(claims) == making + 1:
            say()

    model = model_with_hooks(local_denoiser(random_dit(config), config), on_claim=on_claim)
    stream = frames(tmp_path, model=model, length=18, camera=STILL_PATH)
    rescue = threading.Timer(5.0, free)
    rescue.start()
    for chunk in stream.chunks:
        shown[0] = chunk.first_frame + len(chunk.frames) - 1
        if messages:
            say()
    rescue.cancel()
    assert not frees.is_set() and len(claims) == 6


def test_a_pause_shows_every_chunk_that_is_made_first(tmp_path: Path) -> None:
    paused = threading.Event()

    def on_claim(kv_bytes: int) -> None:
        claims.append(kv_bytes)
        if len(claims) == 3:
            stream.controls.pause()
            paused.set()

    claims: list[int] = []
    stream = frames(tmp_path, model=model_with_hooks(MODEL, on_claim=on_claim))
    seen = []
    for chunk in stream.chunks:
        seen.append(chunk.index)
        if paused.is_set() and chunk.index == 2:
            assert len(claims) == 3
            stream.controls.resume()
    assert seen == [0, 1, 2, 3]


def test_a_stop_delivers_what_is_made(tmp_path: Path) -> None:
    chunks = read_all(frames(tmp_path), {1: lambda stream: stream.controls.stop()})
    made = len(latents_of(tmp_path))
    assert [chunk.index for chunk in chunks] == list(range(made)) and 2 <= made <= 3


def test_an_interrupt_loses_nothing_and_the_next_run_continues(tmp_path: Path) -> None:
    evaluations = []

    def check() -> None:
        evaluations.append(None)
        if len(evaluations) == 10:  # chunk 3: three evaluations each, and its predecessor's commit
            raise Interrupt

    stream = frames(tmp_path / "ahead", model=model_with_hooks(MODEL, on_check=check))
    chunks = []
    with pytest.raises(Interrupt):
        for chunk in stream.chunks:
            chunks.append(chunk)
    assert len(chunks) == len(latents_of(tmp_path / "ahead")) > 1
    again = read_all(frames(tmp_path / "ahead"))
    assert_same(again, read_in_turn(tmp_path / "turn"))
    assert_same(chunks, again[: len(chunks)])


def test_a_decoder_that_fails_ends_the_stream_and_not_the_journal(
    tmp_path: Path, uncollected: None
) -> None:
    stream = frames(tmp_path)
    opened = stream.open_decoder

    def open_failing() -> StreamingCoder:
        decoder = opened()
        feed, calls = decoder.feed, list[int]()

        def fail_at_second(latents: Tensor) -> Tensor:
            calls.append(1)
            if len(calls) == 2:
                raise ValueError("broken decoder")
            return feed(latents)

        decoder.feed = fail_at_second  # type: ignore[method-assign]
        return decoder

    stream.open_decoder = open_failing
    seen = []
    with pytest.raises(ValueError, match="broken decoder"):
        for chunk in stream.chunks:
            seen.append(chunk.index)
    assert seen == [0] and len(latents_of(tmp_path)) >= 2
    assert [chunk.index for chunk in read_all(frames(tmp_path))] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("threads", "shares"),
    [(1, None), (2, (1, 1)), (3, (1, 1)), (4, (2, 1)), (8, (5, 2)), (16, (9, 6))],
)
def test_threads_are_divided_and_one_of_many_is_left_to_the_encoders(
    threads: int, shares: tuple[int, int] | None
) -> None:
    divided = share_threads(threads, flops=0)
    assert (divided and (divided.main, divided.side)) == shares
    assert share_threads(threads, LARGE_PASS_FLOPS) is None


def test_a_pass_is_counted_by_its_tokens_and_layers() -> None:
    """Two layers of width 24: q, k, v and o, q and o to the prompt, and an MLP of 32."""
    tokens = 3 * 2 * 3
    assert pass_flops(settings(), TINY) == 2 * tokens * 2 * (6 * 24 * 24 + 2 * 24 * 32)
