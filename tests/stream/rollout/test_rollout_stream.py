"""Laws of ROLLOUT and FRAMES: content addresses, resuming from the journal, decoding mid-stream."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import FullHistory, WindowSink
from longtake.errors import OutOfMemory
from longtake.model.vae.streaming import StreamingDecoder
from longtake.model.vae.tiny import TinyVAE, TinyVAEConfig
from longtake.samplers.conditioning.known_frame import KnownFrame
from longtake.samplers.conditioning.known_frames import KnownFrames
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import cfg
from longtake.samplers.rules.anchor import Anchor
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.reading import NewestFrames
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import StaggeredSchedule, rolling
from longtake.samplers.solvers.multistep import UniPC2
from longtake.samplers.solvers.single_step import ReNoise
from longtake.stream.journal.journal import Journal
from longtake.stream.rollout.frame_stream import FrameStream
from longtake.stream.rollout.out_of_memory import OutOfDeviceMemory
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.tiny_model import (
    CHUNKS,
    TINY,
    randn,
    random_dit,
    settings,
    timeline,
)

MODEL = local_denoiser(random_dit(), TINY)


def rollout(folder: Path, identity: str = "model", **changes: Any) -> Rollout:
    return Rollout(RolloutSpec(settings(**changes), MODEL, identity, Journal(folder)))


@pytest.mark.parametrize(("length", "chunks"), [(1, 1), (3, 1), (7, 3), (9, 3), (None, None)])
def test_a_spec_knows_its_chunks(tmp_path: Path, length: int | None, chunks: int | None) -> None:
    assert rollout(tmp_path, length=length).chunk_count == chunks


def test_a_longer_rollout_has_the_same_id_and_continues(tmp_path: Path) -> None:
    short = rollout(tmp_path, length=6)
    made = list(short.chunks)
    longer = rollout(tmp_path, length=9)
    assert longer.id == short.id and longer.spec.stored_chunks() == 2
    chunks = list(longer.chunks)
    assert longer.resumed_from == 2
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(chunks, made, strict=False))
    whole = list(rollout(tmp_path / "anew", length=9).chunks)
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(chunks, whole, strict=True))


def test_chunks_in_flight_continue_from_the_journal(tmp_path: Path) -> None:
    """Rolling Forcing's window resumes bit for bit, without making any chunk again."""
    shot = {"schedule": rolling(flow_ladder(3, 2.0), 2), "solver": UniPC2(), "length": 10}
    first = rollout(tmp_path, **shot)
    whole = list(first.chunks)
    for index in (2, 3, 4):
        (tmp_path / f"{first.spec.key(index)}.safetensors").unlink()
    again = rollout(tmp_path, **shot)
    chunks = list(again.chunks)
    assert again.resumed_from == 2
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(chunks, whole, strict=True))
    assert chunks[3].model_evals == whole[3].model_evals


def test_a_longer_rollout_shares_only_chunks_that_the_end_did_not_touch(tmp_path: Path) -> None:
    """In a joint window, the last chunks lack the frames that would follow in a longer rollout."""
    schedule = rolling(flow_ladder(3, 2.0), 2)
    short, longer = (rollout(tmp_path, schedule=schedule, length=n) for n in (8, 12))
    same = [short.spec.key(i) == longer.spec.key(i) for i in range(4)]
    assert same == [True, True, False, False]
    a, b = list(short.chunks), list(rollout(tmp_path / "anew", schedule=schedule, length=12).chunks)
    assert same == [torch.equal(a[i].latents, b[i].latents) for i in range(4)]


def test_a_changed_later_prompt_shares_the_chunks_before_it(tmp_path: Path) -> None:
    first, second = rollout(tmp_path), rollout(tmp_path, prompts=timeline(0, 6))
    assert (
        first.spec.key(0) == second.spec.key(0)
        and first.spec.key(1) != second.spec.key(1)
        and first.id != second.id
    )


def test_a_known_frame_changes_only_chunks_that_it_can_influence(tmp_path: Path) -> None:
    def of(*frames: KnownFrame, schedule: StaggeredSchedule = CHUNKS) -> list[str]:
        first = rollout(tmp_path, length=12, schedule=schedule, known_frames=KnownFrames(frames))
        return [first.spec.key(i) for i in range(4)]

    picture = randn(TINY.out_channels, 4, 6)
    plain, given = of(), of(KnownFrame(6, picture))
    assert given[:2] == plain[:2] and given[2] != plain[2]
    assert given[1] != of(KnownFrame(5, picture))[1]
    assert given[2:] != of(KnownFrame(6, picture, 0.5))[2:] != of(KnownFrame(6, -picture, 0.5))[2:]
    joint = rolling(flow_ladder(2, 2.0), 3)  # the chunk before is made together with it
    assert of(KnownFrame(6, picture), schedule=joint)[1] != of(schedule=joint)[1]


@pytest.mark.parametrize(
    "change",
    [
        {"identity": "other"}, {"seed": 6}, {"rows": 8}, {"columns": 4}, {"solver": ReNoise()},
        {"guidance": cfg(2.0)}, {"cache": FullHistory()}, {"cache": WindowSink(4)},
        {"context_noise": 0.1}, {"schedule": dataclasses.replace(CHUNKS, chunk_frames=1)},
        {"memory": MemoryRules(commit=NewestFrames(0))}, {"anchor": Anchor(0.5)},
    ],
    ids=str,
)  # fmt: skip
def test_everything_that_influences_a_chunk_is_in_its_key(tmp_path: Path, change: Any) -> None:
    assert rollout(tmp_path, **change).spec.key(0) != rollout(tmp_path).spec.key(0)


def test_every_chunk_records_what_it_was_made_with(tmp_path: Path) -> None:
    first = rollout(tmp_path)
    next(iter(first.chunks))
    meta = first.spec.journal.read_meta(first.spec.key(0)) or {}
    assert meta["device"] == "cpu" and meta["torch"] == torch.__version__


def decodable(folder: Path) -> tuple[Rollout, TinyVAE]:
    """A rollout with a VAE that decodes it."""
    torch.manual_seed(0)
    model = dataclasses.replace(TINY, in_channels=16, out_channels=16)
    denoiser = local_denoiser(random_dit(model), model)
    source = Rollout(RolloutSpec(settings(length=12), denoiser, "wide", Journal(folder)))
    return source, TinyVAE(TinyVAEConfig((4, 4, 4), (4, 4, 4))).eval()


@pytest.mark.parametrize(
    ("error", "shown", "message"),
    [
        (RuntimeError("DefaultCPUAllocator: x"), OutOfMemory, "while chunk 1 was decoded; .*tiles"),
        (MemoryError(), OutOfMemory, "while chunk 1 was decoded; everything before is kept"),
        (torch.OutOfMemoryError("CUDA"), OutOfDeviceMemory, "while chunk 1 was decoded; .*tiles"),
        (RuntimeError("shapes"), RuntimeError, "shapes"),
    ],
    ids=["main memory", "python", "accelerator", "another error"],
)
def test_no_memory_for_decoding_is_one_sentence_and_costs_no_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, shown: Any, message: str
) -> None:
    source, vae = decodable(tmp_path)
    decode, decoded = StreamingDecoder.feed, list[int]()

    def feed(decoder: StreamingDecoder, latents: torch.Tensor) -> torch.Tensor:
        decoded.append(len(latents))
        if len(decoded) == 2:
            raise error
        return decode(decoder, latents)

    monkeypatch.setattr(StreamingDecoder, "feed", feed)
    with pytest.raises(shown, match=message):
        list(FrameStream(source, lambda: StreamingDecoder(vae), 16).chunks)
    assert source.spec.stored_chunks() == 2
    assert len(list(FrameStream(source, lambda: StreamingDecoder(vae), 16).chunks)) == 4


def test_frames_read_from_the_middle_equal_those_read_from_the_start(tmp_path: Path) -> None:
    source, vae = decodable(tmp_path)
    whole = list(FrameStream(source, lambda: StreamingDecoder(vae), 16).chunks)
    assert [chunk.first_frame for chunk in whole] == [0, 9, 21, 33]
    for index in range(4):
        chunk = next(
            FrameStream(source, lambda: StreamingDecoder(vae), 16).chunks.open(index)  # anew
        )
        torch.testing.assert_close(chunk.frames, whole[index].frames, rtol=0, atol=1e-6)
