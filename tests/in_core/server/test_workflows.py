"""Whole workflows through POST /prompt of the real core: outputs side by side, cached, cancelled,
failing, resumed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from longtake.tests.in_core.support.client import Client, Run
from longtake.tests.in_core.support.graphs import (
    CHUNKS,
    DECODE,
    LOAD,
    PREVIEW,
    SAMPLER,
    SAVE,
    example,
    node,
    told,
)
from longtake.tests.in_core.support.outputs import frame_count, newest_clip, packets, saved

pytestmark = pytest.mark.usefixtures("fresh_journal")


def steps_apart(run: Run, one: str, other: str) -> list[int]:
    """How many chunks two outputs were apart, after every progress message of either."""
    done = {one: 0, other: 0}
    apart = []
    for name, data in run.messages:
        if name == "progress" and data["node"] in done:
            done[data["node"]] = data["value"]
            apart.append(abs(done[one] - done[other]))
    return apart


def chunks_made(run: Run) -> list[int]:
    """Indices of the chunks that went through the decoder."""
    return [data["chunk"] for name, data in run.messages if name == "longtake.chunk"]


def chunks_from_disk(run: Run) -> list[int]:
    """Indices of those that an earlier run had made."""
    news = [data for name, data in run.messages if name == "longtake.chunk"]
    return [data["chunk"] for data in news if data["from_disk"]]


def test_the_example_makes_a_video_a_sheet_and_a_report(client: Client) -> None:
    run = client.run(example(seed=1))
    assert run.end[0] == "execution_success", run.end
    video = saved(client, run)
    assert (
        frame_count(video) == 69
    )  # 61 frames are 16 latent frames, snapped up to six chunks of three
    assert Path(f"{video.with_suffix('')}sheet.png").is_file()
    report = json.loads(Path(f"{video.with_suffix('')}report.json").read_text())
    assert report["frames"] == 69 and report["kv_bytes_planned"] > 0
    # Progress belongs to the sampler, which has long returned; the core may leave steps out.
    assert run.values(SAMPLER)[-1] == CHUNKS[-1] and set(run.values(SAMPLER)) <= set(CHUNKS)
    assert run.pictures(PREVIEW) == run.pictures(SAMPLER) == 0  # the player has its own way
    assert chunks_made(run) == [0, 1, 2, 3, 4, 5]
    assert chunks_from_disk(run) == []


def test_preview_and_save_advance_together_chunk_by_chunk(client: Client) -> None:
    """In pictures so large that a chunk takes longer than the core waits between messages."""
    workflow = example(seed=2)
    workflow[SAMPLER]["inputs"] |= {"width": 256, "height": 256}
    run = client.run(workflow)
    for output in (PREVIEW, SAVE):  # the core may leave out steps of a quick shot
        values = run.values(output)
        assert values == sorted(values) and {*values} <= {*CHUNKS} and values[-1] == CHUNKS[-1]
    assert max(steps_apart(run, PREVIEW, SAVE)) <= 2


def test_a_cached_preview_does_not_hold_up_a_changed_save(client: Client) -> None:
    first = client.run(example(seed=3))
    again = client.run(example(seed=3))
    assert set(again.cached) >= {SAMPLER, DECODE, PREVIEW, SAVE}
    assert saved(client, again) == saved(client, first)
    changed = example(seed=3)
    changed[SAVE]["inputs"]["filename_prefix"] = "longtake/other"
    alone = client.run(changed)
    assert PREVIEW in alone.cached and SAVE not in alone.cached
    assert alone.values(SAMPLER) == []  # read back from the journal, nothing generated
    assert chunks_from_disk(alone) == chunks_made(alone)
    assert packets(saved(client, alone)) == packets(saved(client, first))


def test_a_bypassed_preview_leaves_the_save_alone(client: Client) -> None:
    workflow = example(seed=4)
    del workflow[PREVIEW]
    run = client.run(workflow)
    assert run.end[0] == "execution_success"
    assert frame_count(saved(client, run)) == 69


def test_cancel_keeps_a_playable_file_and_the_next_run_goes_on_bit_for_bit(client: Client) -> None:
    async def cancel(client: Client, name: str, data: Any) -> None:
        if name == "longtake.chunk" and data["chunk"] == 2:
            await client.interrupt()

    workflow = example(seed=5, frames=141)
    stopped = client.run(workflow, cancel)
    assert stopped.end[0] == "execution_interrupted"
    # An output that has not taken chunk 2 yet when another meets the cancel ends without it.
    assert 21 <= frame_count(newest_clip(client)) < 141
    resumed = client.run(workflow)
    assert resumed.end[0] == "execution_success"
    # The core passes on ten progress messages a second at most: the first and last are sure.
    went_on = resumed.values(SAMPLER)
    assert went_on[0] > max(stopped.values(SAMPLER)) and went_on[-1] == 12
    shutil.rmtree(client.base / "output" / "longtake" / ".rollouts")
    workflow[SAVE]["inputs"]["filename_prefix"] = "longtake/uninterrupted"
    whole = client.run(workflow)
    assert whole.values(SAMPLER)[0] == 1 and whole.values(SAMPLER)[-1] == 12
    assert packets(saved(client, whole)) == packets(saved(client, resumed))


def test_an_output_failing_in_mid_stream_leaves_the_others_file_whole(client: Client) -> None:
    workflow = example(seed=6, frames=201)
    failing = {**workflow, "9": node("FailingOutput", frames=[DECODE, 0], chunks=3)}
    run = client.run(failing)
    assert run.end[0] == "execution_error" and run.end[1]["node_id"] == "9"
    assert "the test's own failure" in run.end[1]["exception_message"]
    assert frame_count(newest_clip(client)) >= 33
    again = client.run(workflow)
    assert again.end[0] == "execution_success"
    assert again.values(SAMPLER)[0] > 3  # the chunks made before the failure are kept


def test_a_name_outside_the_output_folder_is_refused_and_nothing_is_left(client: Client) -> None:
    workflow = example(seed=7)
    del workflow[PREVIEW]  # which the core would run without the file
    workflow[SAVE]["inputs"]["filename_prefix"] = "../outside"
    sentences = told(client, workflow, SAVE)
    assert len(sentences) == 1 and "not a file name inside the output folder" in sentences.pop()
    assert not list(client.base.glob("outside*"))


def test_two_streams_of_one_model_with_and_without_a_lora_do_not_mix(client: Client) -> None:
    """Both are generated in turns, chunk by chunk; each must be as if it were alone."""
    both = example(seed=8)
    del both[PREVIEW]
    both["11"] = node(
        "LoraLoaderModelOnly", model=[LOAD, 0], lora_name="random.safetensors", strength_model=0.5
    )
    both["15"] = {**both[SAMPLER], "inputs": {**both[SAMPLER]["inputs"], "model": ["11", 0]}}
    both["16"] = node("LongtakeVAEDecode", rollout=["15", 0], vae=[LOAD, 2])
    both["18"] = {**both[SAVE], "inputs": {**both[SAVE]["inputs"], "frames": ["16", 0]}}
    both["18"]["inputs"]["filename_prefix"] = "longtake/lora"
    together = client.run(both)
    assert max(steps_apart(together, SAMPLER, "15")) <= 4  # of 12: not one after the other
    shutil.rmtree(client.base / "output" / "longtake" / ".rollouts")
    for save, others in ((SAVE, ("11", "15", "16", "18")), ("18", (SAMPLER, DECODE, SAVE))):
        one = {number: node for number, node in both.items() if number not in others}
        one[save] = {
            **one[save],
            "inputs": {
                **one[save]["inputs"],
                "crf": 18,
                "filename_prefix": f"longtake/alone{save}",
            },
        }
        assert packets(saved(client, client.run(one), save)) == packets(
            saved(client, together, save)
        )
    assert packets(saved(client, together, SAVE)) != packets(saved(client, together, "18"))
