"""The prompt timeline as users type it, and what becomes of it in latent frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from longtake.attention.cache.policy import FullHistory, WindowSink
from longtake.attention.recall.window import RecallWindow
from longtake.errors import BadInput
from longtake.model.config import DiTConfig
from longtake.tests.support.lasting_host import lasting_host
from longtake.tests.support.laws import examples
from longtake.tests.support.nodes.timelines import parsed

CONFIG = DiTConfig(dim=24, ffn_dim=32, num_heads=2, num_layers=1, text_dim=8)


@pytest.fixture(autouse=True)
def _host(tmp_path: Path) -> Iterator[None]:
    with lasting_host(tmp_path, lambda event: None):
        yield


def in_latent_frames(*times_s: float, width: int = 8) -> list[int]:
    """Where prompts at `times_s` start, at 16 frames a second and three latent frames a chunk."""
    from longtake.nodes.conditioning.prompt_plan import prompt_timeline
    from longtake.nodes.conditioning.timeline import TimedEmbedding, Timeline
    from longtake.nodes.length import SECONDS, snapped_length

    entries = tuple(TimedEmbedding(time, torch.full((5, width), time), "") for time in times_s)
    length = snapped_length(10.0, SECONDS, 16.0, 3)
    made = prompt_timeline(Timeline(entries, torch.zeros(3, width)), CONFIG, length)
    assert all(entry.values.shape == made.negative.shape for entry in made.entries)
    return [entry.start_frame for entry in made.entries]


def test_prompts_start_with_the_nearest_chunk() -> None:
    assert in_latent_frames(0, 1.0, 5.0) == [
        0,
        6,
        21,
    ]  # 16 and 80 frames: latent frames 4.75, 20.75


def of_two_on_one_chunk(first_s: float, second_s: float) -> Any:
    """What becomes of two lines that fall on the chunk at 5.06 s, in the order they are written."""
    from longtake.nodes.conditioning.prompt_plan import (
        guidance_changes,
        prompt_timeline,
        unused_prompts,
    )
    from longtake.nodes.conditioning.timeline import TimedEmbedding, Timeline
    from longtake.nodes.length import SECONDS, snapped_length
    from longtake.samplers.guidance import cfg

    lines = [(0.0, "start", None), (first_s, "upper", 3.0), (second_s, "lower", None)]
    entries = tuple(
        TimedEmbedding(s, torch.full((5, 8), number), text, g)
        for number, (s, text, g) in enumerate(lines, 1)
    )
    timeline = Timeline(entries, torch.zeros(5, 8))
    length = snapped_length(10.0, SECONDS, 16.0, 3)
    made = prompt_timeline(timeline, CONFIG, length)
    changes = guidance_changes(timeline, length, cfg)
    said = unused_prompts(timeline, length)
    return made.entries, [(c.start_frame, c.guidance) for c in changes], said


@pytest.mark.parametrize("times", [(5.0, 5.1), (5.1, 5.0), (5.0, 5.0)])
def test_of_two_prompts_on_one_chunk_the_lower_line_counts(times: tuple[float, float]) -> None:
    """A kept edit is a line at the end, whatever the lines above it say of the same chunk."""
    from longtake.samplers.guidance import cfg

    entries, changes, said = of_two_on_one_chunk(*times)
    assert [(entry.start_frame, entry.text) for entry in entries] == [(0, "start"), (21, "lower")]
    assert changes == [(21, cfg(3.0))]  # the lower line does not say otherwise
    assert said == [
        f"The prompt 'upper' at {times[0]:g} s is replaced by a lower line of the same chunk."
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 (guidance 3): a", [(0, "a", 3.0)]),
        ("a\n1:02.5s ( Guidance 2.25 ) : b: c", [(0, "a", None), (62.5, "b: c", 2.25)]),
        ("0: a\n3 (three) balls: bounce", [(0, "a 3 (three) balls: bounce", None)]),
    ],
)
def test_a_line_may_change_the_guidance(text: str, expected: list[Any]) -> None:
    from longtake.nodes.conditioning.timeline import parse

    assert [(one.start_s, one.text, one.guidance) for one in parse(text)] == expected


@pytest.mark.parametrize(
    "option", ["guidance", "guidance x", "guidance 31", "guidance -1", "cfg 3"]
)
def test_what_is_no_guidance_is_named(option: str) -> None:
    with pytest.raises(BadInput, match=f"Line 2 has .{option}. before its colon; write"):
        parsed(f"0: a\n5 ({option}): b")


@examples(300)
@example(0.0, ":", None, None, "a")
@example(0.0, "s: x", None, None, "a")
@example(90.0, "(guidance 3): x", None, -0.5, "a")
@given(
    st.floats(0, 1e6), st.text(), st.none() | st.floats(0, 30), st.none() | st.floats(-20, 20),
    st.sampled_from(["a", "0: a\n9: b"]),
)  # fmt: skip
def test_a_kept_edit_is_read_back_as_it_was_applied(
    start_s: float, typed: str, strength: float | None, lora: float | None, before: str
) -> None:
    """For whatever is typed into the live edit: `written`, appended to a timeline, then `parse`."""
    from longtake.nodes.conditioning.timeline import TimedText, format_line, parse
    from longtake.stream.rollout.live.controls import Controls

    controls = Controls()
    controls.set_prompt(typed)
    if strength is not None:
        controls.set_number("guidance", strength)
    if lora is not None:
        controls.set_number("lora", lora)
    [edit] = controls.edits
    line = format_line(TimedText(start_s, edit.text or "", edit.guidance, lora=edit.lora))
    *_, read = parse(f"{before}\n{line}")
    assert (read.text, read.guidance, read.lora) == (edit.text, edit.guidance, edit.lora)
    assert abs(read.start_s - start_s) <= 5e-5 and "\n" not in line


def test_prompts_of_another_text_encoder_are_refused() -> None:
    with pytest.raises(BadInput, match="4096 wide, but the model takes 8"):
        in_latent_frames(0, width=4096)


def test_prompts_for_a_full_size_model_are_told_which_encoder_and_where_it_loads() -> None:
    """Outside ComfyUI it cannot be loaded at all, so that the sentence names --comfy."""
    from longtake.nodes.conditioning.prompt_plan import check_guidance_prompts

    own: Any = SimpleNamespace(embedding=torch.zeros(1, 64))
    guidance: Any = SimpleNamespace(own_prompts=[own], normalized_attention=None)
    config: Any = SimpleNamespace(text_dim=4096, reads_prompt=True)
    with pytest.raises(BadInput, match="64 wide, but the model takes 4096.*umt5.*--comfy DIR"):
        check_guidance_prompts(guidance, config)


@pytest.mark.parametrize(
    ("conditioning", "complaint"),
    [
        ([[torch.zeros(1, 5, 8), {}], [torch.zeros(1, 5, 8), {}]], "has 2 parts"),
        ([[torch.zeros(2, 5, 8), {}]], "a batch of 2"),
        ([[torch.zeros(1, 5, 8), {"mask": torch.zeros(1)}]], "has a mask from Conditioning"),
        ([[torch.zeros(1, 5, 8), {"vace_frames": [torch.zeros(1)]}]], "video from WanVaceToVideo"),
        ([], "is empty; connect the output of CLIP Text Encode"),
    ],
)
def test_conditioning_the_sampler_would_misread_is_refused(
    conditioning: list[Any], complaint: str
) -> None:
    from longtake.nodes.conditioning.prompt_plan import prompt_timeline
    from longtake.nodes.length import SECONDS, snapped_length

    length = snapped_length(1.0, SECONDS, 16.0, 3)
    with pytest.raises(BadInput, match=complaint):
        prompt_timeline(conditioning, CONFIG, length)


@pytest.mark.parametrize(
    ("length", "unit", "latent_frames", "frames"),
    [
        (10.0, "seconds", 42, 165),
        (1.0, "frames", 3, 9),
        (33.0, "frames", 9, 33),
        (34.0, "frames", 12, 45),
    ],
)
def test_length_becomes_whole_chunks_never_shorter(
    length: float, unit: str, latent_frames: int, frames: int
) -> None:
    from longtake.nodes.length import snapped_length

    snapped = snapped_length(length, unit, 16.0, 3)
    assert (snapped.latent_frames, snapped.frames) == (latent_frames, frames)
    assert bool(snapped.notes) == (frames != length)


def test_one_requested_frame_is_no_frames() -> None:
    from longtake.nodes.length import snapped_length

    [note] = snapped_length(1, "frames", 16.0, 3).notes
    assert note == "Requested length: 0.1 s, 1 frame, rounded up to whole chunks."


@pytest.mark.parametrize("length", [-1.0, float("nan"), float("inf"), 1e9])
def test_impossible_lengths_are_refused(length: float) -> None:
    from longtake.nodes.length import SECONDS, snapped_length

    with pytest.raises(BadInput, match="length is"):
        snapped_length(length, SECONDS, 16.0, 3)


@pytest.mark.parametrize(
    ("width", "height", "complaint"),
    [(100, 64, "width is 100, not a multiple of 16; use 96 or 112"), (64, 0, "height is 0")],
)
def test_impossible_sizes_are_refused(width: int, height: int, complaint: str) -> None:
    from longtake.nodes.length import latent_size

    assert latent_size(96, 64, 16) == (8, 12)
    with pytest.raises(BadInput, match=complaint):
        latent_size(width, height, 16)


def test_a_length_of_0_has_no_end() -> None:
    from longtake.nodes.length import SECONDS, check_endless, snapped_length

    endless = snapped_length(0.0, SECONDS, 16.0, 3)
    assert (endless.latent_frames, endless.frames) == (None, None)
    assert endless.in_words(None) == "Runs until Stop, 0.75 s per chunk"
    check_endless(endless, WindowSink(12))
    with pytest.raises(BadInput, match="a KV cache with the full history would fill the memory"):
        check_endless(endless, FullHistory())
    check_endless(endless, RecallWindow(12, archive_frames=99))
    with pytest.raises(BadInput, match="Set archive_frames"):
        check_endless(endless, RecallWindow(12))


@pytest.mark.parametrize(
    ("line", "guidance", "over_s"),
    [
        ("5 (over 2): b", None, 2.0), ("5 (over 1.5 s): b", None, 1.5),
        ("5 (guidance 3, over 2): b", 3.0, 2.0), ("5 (OVER 2,guidance 3): b", 3.0, 2.0),
    ],
)  # fmt: skip
def test_a_line_says_how_long_its_prompt_takes_over(
    line: str, guidance: float | None, over_s: float
) -> None:
    from longtake.nodes.conditioning.timeline import format_line, parse

    entry = parse(f"0: a\n{line}")[1]
    assert (entry.guidance, entry.over_s) == (guidance, over_s)
    assert parse(f"0: a\n{format_line(entry)}")[1] == entry


@pytest.mark.parametrize("option", ["over", "over -1", "over 2, over 3", "fade 2", "over 2;", ","])
def test_impossible_options_are_named(option: str) -> None:
    with pytest.raises(BadInput, match="Line 2 has"):
        parsed(f"0: a\n5 ({option}): b")


@pytest.mark.parametrize("count", [1, 511, 512, 513, 700])
def test_long_prompts_are_cut_before_they_are_encoded_and_keep_their_end_token(count: int) -> None:
    """What Hugging Face's `truncation=True, max_length=512` keeps."""
    from longtake.nodes.conditioning.prompts import truncate_tokens

    end = (1, 1.0)
    tokens = [*((i + 10, 1.0) for i in range(count - 1)), end]
    kept, dropped = truncate_tokens({"umt5xxl": [tokens], "note": "x"})
    assert kept["note"] == "x" and dropped == max(0, count - 512)
    [row] = kept["umt5xxl"]
    assert row == (tokens if count <= 512 else [*tokens[:511], end])


def test_prompts_of_a_wan_model_are_padded_with_zeros_to_512_and_cut_there() -> None:
    from longtake.model.config import DiTConfig
    from longtake.nodes.conditioning.prompt_plan import prompt_timeline, truncated_prompts
    from longtake.nodes.conditioning.timeline import TimedEmbedding, Timeline
    from longtake.nodes.length import SECONDS, snapped_length

    config = DiTConfig(24, 32, 2, 1, 4096)
    length = snapped_length(1.0, SECONDS, 16.0, 3)
    for words, said in ((3, 0), (512, 0), (600, 1)):
        embedding = torch.ones(words, 4096)
        timeline = Timeline((TimedEmbedding(0.0, embedding, "a"),), embedding)
        made = prompt_timeline(timeline, config, length).entries[0].values
        assert made.shape == (512, 4096) and made[:, 0].count_nonzero() == min(words, 512)
        assert len(truncated_prompts(timeline, config)) == said


class ScheduledCLIP:
    """A CLIP of the host's that encodes to these parts, as after Set CLIP Hooks."""

    def __init__(self, *options: dict[str, Any]) -> None:
        self.cond_stage_model = torch.nn.Module()
        self._parts = [[torch.ones(1, 2, 8), each] for each in options]

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str) -> Any:
        return self._parts


@pytest.mark.parametrize("options", [[{"hooks": object()}], [{}, {}]])
def test_hooks_on_a_clip_are_refused(options: list[dict[str, Any]]) -> None:
    """The sampler would leave them out: the first part alone is the prompt."""
    from longtake.nodes.conditioning.prompts import embed

    clip: Any = ScheduledCLIP(*options)
    with pytest.raises(BadInput, match="remove Set CLIP Hooks, and put its LoRA on model and CLIP"):
        embed(clip, "a ball", print)


def test_a_clip_without_hooks_on_its_prompts_is_taken() -> None:
    from longtake.nodes.conditioning.prompts import embed

    clip: Any = ScheduledCLIP({"hooks": None})
    assert embed(clip, "a ball", print).shape == (2, 8)


def test_a_prompt_of_wans_encoder_is_held_without_its_padding() -> None:
    """512 rows take 8 MB, most of them zeros; other widths stay, as their padding counts."""
    from longtake.nodes.conditioning.prompts import embed

    for width, rows in ((4096, 40), (8, 512)):
        encoded = torch.zeros(1, 512, width)
        encoded[:, :40] = 1
        clip: Any = ScheduledCLIP({})
        clip._parts = [[encoded, {}]]
        assert torch.equal(embed(clip, "a", print), encoded[0, :rows])
