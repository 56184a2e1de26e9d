"""Live controls on the canvas, under the stand-in host: edits, stops, plans, shots without end."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from longtake.errors import BadInput
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.steps import ask_at, forget_chunks, pictures

TEXT = "0: a red ball\n1: a blue ball"
SAMPLER = "LongtakeSampler"


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (lambda c: c.set_prompt("a blue  ball"), "0.5625: a blue ball"),
        (lambda c: c.set_number("guidance", 2.0), "0.5625 (guidance 2): a red ball"),
        (
            lambda c: (c.set_prompt("ball"), c.set_number("guidance", 4.5)),
            "0.5625 (guidance 4.5): ball",
        ),
    ],
)
def test_keep_edit_gives_the_edited_video_from_the_workflow_alone(
    bench: Bench, asked: Callable[[Any], None], line: str
) -> None:
    frames = bench.frames(text=TEXT)
    ask_at(bench, 0, lambda: asked(frames.controls))
    edited = pictures(bench, frames)
    [edit] = frames.controls.edits
    assert (edit.status, edit.line) == ("applied", line)
    bench.state.start_prompt()
    kept = bench.frames(text=f"{TEXT}\n{line}")
    assert kept.rollout.spec.stored_chunks() == 3  # it goes on from the edited run's own chunks
    forget_chunks(bench)
    assert torch.equal(pictures(bench, kept), edited)
    assert not torch.equal(pictures(bench, bench.frames(text=TEXT)), edited)


def test_the_end_of_a_run_says_how_the_next_one_keeps_its_edits(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "longtake")
    frames = bench.frames(text=TEXT)
    ask_at(bench, 0, lambda: frames.controls.set_prompt("a blue  ball"))
    pictures(bench, frames)
    [told] = [text for text in caplog.messages if "live edit" in text]
    assert told == (
        "This run had 1 live edit. The next run goes on without it, unless the Prompt Timeline "
        "has this line:\n0.5625: a blue ball"
    )


@pytest.mark.usefixtures("bench")
def test_edits_that_no_line_can_say_are_named() -> None:
    from longtake.nodes.runtime.run_observer import TOLD_EDITS, describe_edits

    assert describe_edits([], ["level 0.5", "control strength 0.3"]) == (
        "This run had 2 live edits. The next run goes on without them.\n"
        "No line can say: level 0.5, control strength 0.3."
    )
    lines = [f"{second}: a" for second in range(TOLD_EDITS + 5)]
    told = describe_edits(lines, ["level 0.5"]).splitlines()
    assert len(told) == TOLD_EDITS + 2 and told[1] == "5: a" and "level 0.5" in told[-1]


def test_the_player_learns_the_guidance_of_the_newest_chunk(bench: Bench) -> None:
    frames = bench.frames(text=TEXT.replace("1:", "1 (guidance 2.5):"), length=45.0)
    assert (frames.stats().guidance, frames.stats().lora) == (1.0, 1.0)
    told: list[float | None] = []
    for chunk in frames.chunks:
        told.append(frames.stats().guidance)
        if chunk.index == 2:
            frames.controls.set_number("guidance", 0.1)
    assert told == [1.0, 1.0, 2.5, 0.1]


def test_the_player_learns_a_factor_on_history_guidance(bench: Bench) -> None:
    [guidance] = bench.run("LongtakeHistoryGuidance")
    frames = bench.frames(guidance=guidance)
    assert frames.stats().guidance == 1.0
    ask_at(bench, 0, lambda: frames.controls.set_number("guidance", 0.5))
    pictures(bench, frames)
    assert frames.stats().guidance == 0.5


def test_the_same_workflow_again_is_unedited_and_runs_anew(bench: Bench) -> None:
    frames = bench.frames(text=TEXT)
    ask_at(bench, 0, lambda: frames.controls.set_prompt("ball"))
    before = fingerprint(bench)
    edited = pictures(bench, frames)
    assert torch.equal(pictures(bench, frames), edited)  # a later node of the same prompt
    assert fingerprint(bench) != before
    bench.state.start_prompt()  # the host hands the very same FRAMES to the next prompt
    again = pictures(bench, frames)
    forget_chunks(bench)
    assert torch.equal(again, pictures(bench, bench.frames(text=TEXT)))
    assert not torch.equal(again, edited) and frames.controls.edits == ()


def fingerprint(bench: Bench, node_id: str | None = SAMPLER) -> int:
    """What the host asks the sampler before a prompt, to see whether it must run."""
    from longtake.headless.hosts.stand_in.io_types import HiddenHolder
    from longtake.nodes.sampling.sampler import DiffusionForcingSampler

    prepared = type("Asked", (DiffusionForcingSampler,), {"hidden": HiddenHolder(node_id)})
    return prepared.fingerprint_inputs(seed=0, model=None)


def test_only_the_sampler_that_was_altered_runs_anew(bench: Bench) -> None:
    frames = bench.frames()
    ask_at(bench, 0, frames.controls.stop)
    before = [fingerprint(bench, node) for node in (SAMPLER, "other", None)]
    pictures(bench, frames)
    after = [fingerprint(bench, node) for node in (SAMPLER, "other", None)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 0, 1]


def test_a_stop_ends_every_output_with_what_exists_and_the_next_run_goes_on(bench: Bench) -> None:
    frames = bench.frames()
    ask_at(bench, 1, frames.controls.stop)
    calls = [("LongtakePreview", {"frames": frames}), ("LongtakeSaveVideo", {"frames": frames})]
    asyncio.run(bench.side_by_side(*calls))
    assert frames.controls.state == "stopped"
    assert pictures(bench, frames).shape == (21, 32, 32, 3)  # not the 33 it would have been
    assert frames.report([]).frames == 21 and frames.resume_at_s == 21 / 16
    bench.state.start_prompt()
    whole = pictures(bench, frames)
    assert frames.rollout.resumed_from == 2
    forget_chunks(bench)
    assert torch.equal(whole, pictures(bench, bench.frames()))


def test_the_report_tells_edits_drift_and_loading(bench: Bench) -> None:
    frames = bench.frames(text="0: a red ball", length=69.0)
    ask_at(bench, 0, lambda: frames.controls.set_number("guidance", 3.0))
    pictures(bench, frames)
    report = frames.report([])
    assert report.edits == ["0.5625 (guidance 3): a red ball"]
    assert report.drift is not None and report.drift > 0
    assert report.model_load_s is not None and report.model_load_s > 0


def test_a_prompt_is_encoded_in_view_and_on_the_prompts_thread(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from longtake.nodes.conditioning import prompts

    threads: list[int] = []
    statuses: list[str] = []
    embed = prompts.embed

    def spy(clip: Any, text: str, warn: Any) -> Any:
        threads.append(threading.get_ident())
        statuses.extend(edit.status for edit in frames.controls.edits)
        return embed(clip, text, warn)

    caplog.set_level(logging.INFO, "longtake")
    frames = bench.frames()
    monkeypatch.setattr(prompts, "embed", spy)
    asker = threading.Thread(target=lambda: frames.controls.set_prompt("ball"))
    ask_at(bench, 0, lambda: (asker.start(), asker.join())[0])
    pictures(bench, frames)
    assert threads == [threading.get_ident()] and statuses == ["encoding"]
    assert "Encoding the new prompt 'ball'." in caplog.text


def texts_under_nodes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the page shows from now on, as (node, text)."""
    shown: list[tuple[str, str]] = []
    page = sys.modules["server"].PromptServer.instance
    monkeypatch.setattr(type(page), "client_id", "page")
    monkeypatch.setattr(
        type(page), "send_progress_text", lambda _, text, node, sid=None: shown.append((node, text))
    )
    return shown


@pytest.mark.parametrize("error", [None, RuntimeError("no text encoder is that large")])
def test_the_text_about_encoding_goes_when_encoding_is_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """However it ends; the node then shows again what it showed before."""
    from longtake.nodes.conditioning import prompts

    def embed(clip: Any, text: str, warn: Any) -> Any:
        if error is not None:
            raise error
        return encode(clip, text, warn)

    shown = texts_under_nodes(monkeypatch)
    encode = prompts.embed
    frames = bench.frames()
    monkeypatch.setattr(prompts, "embed", embed)
    ask_at(bench, 0, lambda: frames.controls.set_prompt("ball"))
    pictures(bench, frames)
    texts = [text for _, text in shown]
    encoding = texts.index("Encoding the new prompt 'ball'.")
    assert texts[encoding + 1].startswith(frames.rollout.plan.text)
    assert [edit.status for edit in frames.controls.edits] == ["failed" if error else "applied"]


def test_without_a_timeline_the_prompt_cannot_be_edited_but_guidance_can(bench: Bench) -> None:
    model, clip, vae = bench.run("LongtakeLoadDemoModel")
    [schedule] = bench.run("LongtakeSchedule", steps=1, first_steps=0)
    conditioning = clip.encode_from_tokens_scheduled(clip.tokenize("a red ball"))
    shot = {"width": 32, "height": 32, "length": 33.0, "length_unit": "frames"}
    [rollout] = bench.run(SAMPLER, model=model, prompts=conditioning, schedule=schedule, **shot)
    [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
    ask_at(bench, 0, lambda: frames.controls.set_prompt("ball"))
    frames.controls.set_number("guidance", 3.0)
    pictures(bench, frames)
    guided, prompted = frames.controls.edits
    assert guided.status == "applied" and guided.line is None
    assert "came without a text encoder" in prompted.error


def test_what_a_live_edit_says_stands_under_the_sampler_and_in_the_player(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under Prompt Timeline, which the host takes from its cache, it would stay in later runs."""
    frames = bench.frames()
    shown = texts_under_nodes(monkeypatch)
    ask_at(bench, 0, lambda: frames.controls.set_prompt("a red zeppelin"))
    pictures(bench, frames)
    warning = "The demo model does not know 'zeppelin'; the prompt is used without it."
    assert (SAMPLER, f"Warning: {warning}") == shown[-1]
    assert "LongtakePromptTimeline" not in dict(shown)
    assert frames.controls.message == warning


def test_a_timeline_names_every_unknown_word_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = bench.run("LongtakeLoadDemoModel")[1]
    shown = texts_under_nodes(monkeypatch)
    text = "0: a zeppelin\n1: a red zeppelin\n2: a yacht"
    bench.run("LongtakePromptTimeline", clip=clip, text=text)
    [(node, said)] = shown
    lines = said.splitlines()
    assert node == "LongtakePromptTimeline" and len(lines) == 2
    assert "'zeppelin'" in lines[0] and "'yacht'" in lines[1]


def test_a_live_edit_that_begins_with_a_time_is_refused(bench: Bench) -> None:
    frames = bench.frames()
    ask_at(bench, 0, lambda: frames.controls.set_prompt("5: a blue ball"))
    edited = pictures(bench, frames)
    [edit] = frames.controls.edits
    assert edit.error == (
        "The prompt begins with the time `5:`, but a live edit acts from the next chunk on; delete "
        "the time."
    )
    assert torch.equal(edited, pictures(bench, bench.frames()))


class FakePatcher:
    """As much of the host's patcher as deciding where to encode needs."""

    def __init__(self, device: str, size: int, *, dynamic: bool = False) -> None:
        self.load_device = self.offload_device = torch.device(device)
        self.size, self.dynamic = size, dynamic

    def model_size(self) -> int:
        return self.size

    def loaded_size(self) -> int:
        return 10

    def is_dynamic(self) -> bool:
        return self.dynamic


class FakeCLIP:
    """A CLIP of the host's, whose embedding tells the device it was made on."""

    def __init__(self, patcher: FakePatcher, module: Any = None) -> None:
        self.patcher, self.layer_idx = patcher, None
        self.cond_stage_model = module or torch.nn.Module()

    def clone(self) -> FakeCLIP:
        p = self.patcher
        copy = FakePatcher(str(p.load_device), p.size, dynamic=p.dynamic)
        return FakeCLIP(copy, self.cond_stage_model)

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str) -> Any:
        value = math.nan if tokens == "too loud" else float(self.patcher.load_device.type == "cpu")
        return [[torch.full((1, 2, 3), value), {}]]


@pytest.mark.parametrize(
    ("device", "size", "dynamic", "on_cpu"),
    [
        ("cuda", 1000, False, True), ("cuda", 1000, True, False), ("cuda", 510, False, False),
        ("cpu", 1000, False, True),
    ],
)  # fmt: skip
def test_an_edit_is_encoded_on_the_cpu_where_it_would_push_models_off_the_card(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, device: str, size: int, dynamic: bool,
    on_cpu: bool,
) -> None:  # fmt: skip
    """And the timeline that keeps the edit has the very same embedding, not the card's."""
    import comfy.model_management

    from longtake.nodes.conditioning.prompts import CLIPPrompter, embed

    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: 500)
    clip: Any = FakeCLIP(FakePatcher(device, size, dynamic=dynamic))
    edited = CLIPPrompter(clip).encode("a ball", print)
    assert bool(edited[0, 0]) is on_cpu
    assert torch.equal(embed(clip, "a ball", print), edited)
    assert clip.patcher.load_device == torch.device(device)  # the user's own is left alone
    assert embed(clip, "another", print)[0, 0] == (device == "cpu")


def test_an_edit_whose_embedding_overflows_is_refused(bench: Bench) -> None:
    from longtake.nodes.conditioning.prompts import CLIPPrompter

    clip: Any = FakeCLIP(FakePatcher("cpu", 1))
    with pytest.raises(BadInput, match="text encoder gave NaN or infinity for a prompt"):
        CLIPPrompter(clip).encode("too loud", print)


def test_the_session_remembers_few_embeddings_of_living_encoders(bench: Bench) -> None:
    from longtake.nodes.runtime.session import MAX_EMBEDDINGS, Session

    session = Session()
    clip: Any = FakeCLIP(FakePatcher("cpu", 1))
    for number in range(MAX_EMBEDDINGS + 1):
        session.remember(clip, str(number), torch.tensor(number))
    assert session.embedding(clip, "0") is None and session.embedding(clip, "1") == 1
    clip.layer_idx = -2
    assert session.embedding(clip, "1") is None
    clip.layer_idx = None
    session.reset()
    assert session.embedding(clip, "1") is None


def take_of(bench: Bench) -> Any:
    """The newest take, all encoded."""
    from longtake.nodes.runtime.session import session

    take = list(session.takes._takes.values())[-1]
    take.join()
    return take


def test_the_preview_obeys_the_player_and_shows_what_became_of_it(bench: Bench) -> None:
    """Through the take that the player's requests reach, as the routes do."""
    from longtake.nodes.runtime.session import session

    def edit() -> None:
        take = list(session.takes._takes.values())[-1]
        assert take.controls.obey(1, lambda controls: controls.set_prompt("ball"))

    def stop() -> None:
        take = list(session.takes._takes.values())[-1]
        assert take.controls.obey(2, lambda controls: controls.stop())

    ask_at(bench, 1, stop)
    ask_at(bench, 0, edit)
    frames = bench.frames(text="0: a red ball")
    bench.run("LongtakePreview", frames=frames)
    shown = take_of(bench).manifest()
    assert shown["state"] == "stopped" and shown["frames"] == 21
    assert [edit["line"] for edit in shown["edits"]] == ["0.5625: ball"]
    assert shown["prompt_changes"][1] == {"frame": 9, "text": "ball", "edited": True}
    assert shown["plan"]["chunks"] == 3 and shown["stats"]["paused_s"] == 0.0


def test_a_plan_is_shown_in_the_preview(bench: Bench) -> None:
    frames = bench.frames(plan_only=True)
    bench.run("LongtakePreview", frames=frames)
    shown = take_of(bench).manifest()
    assert shown["state"] == "done" and shown["frames"] == 0
    assert shown["plan"]["text"] == frames.plan.text and shown["plan"]["fits"] is True
