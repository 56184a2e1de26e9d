"""Live controls, memory and plans in the real core: what outputs, the host's cache and /free do."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from longtake.tests.in_core.support.client import Client
from longtake.tests.in_core.support.graphs import (
    CHUNKS,
    CONTROL,
    DECODE,
    SAMPLER,
    SAVE,
    collected,
    controlled,
    example,
    named,
    node,
)
from longtake.tests.in_core.support.outputs import (
    frame_count,
    newest_clip,
    packets,
    plain,
    saved,
    seen,
)

pytestmark = pytest.mark.usefixtures("fresh_journal")


def test_a_stopped_shot_goes_on_when_it_is_queued_again(client: Client) -> None:
    """Although the host has cached every node of the stopped run, which succeeded."""
    workflow = controlled(3100, "stop", "stop")
    stopped = client.run(workflow)
    assert seen(stopped) == ["stopped"]
    assert frame_count(saved(client, stopped)) == 33
    resumed = client.run(workflow)
    assert seen(resumed) == ["done"] and SAMPLER not in resumed.cached
    assert resumed.values(SAMPLER)[0] > 3 and resumed.values(SAMPLER)[-1] == CHUNKS[-1]
    again = client.run(workflow)
    assert set(again.cached) >= {SAMPLER, DECODE, SAVE, CONTROL}  # now there is nothing to do
    whole = plain(client, 3100, "whole")
    assert packets(saved(client, resumed)) == packets(whole)


@pytest.mark.parametrize(
    ("control", "text", "line"),
    [
        ("set_prompt", "snowy mountains at sunset", "1.3125: snowy mountains at sunset"),
        ("set_guidance", "3", "1.3125 (guidance 3): a red ball over green hills at noon"),
    ],
)
def test_an_edit_is_of_its_run_only_and_the_kept_line_gives_it_again(
    client: Client, control: str, text: str, line: str
) -> None:
    seed = 32 + len(text)
    workflow = controlled(seed, control, control, chunk=1, text=text)
    edited = client.run(workflow)
    assert seen(edited) == ["done", line]
    unedited = client.run(workflow)
    assert seen(unedited) == ["done"] and SAMPLER not in unedited.cached
    kept = client.run(named(seed, "kept", f"\n{line}"))
    assert kept.values(SAMPLER) == []  # all of it is the edited run's, from the journal
    videos = [packets(saved(client, run)) for run in (edited, unedited, kept)]
    assert videos[0] == videos[2] != videos[1] == packets(plain(client, seed, "anew"))
    assert packets(plain(client, seed, "kept_anew", f"\n{line}")) == videos[0]


def test_everything_unloaded_in_mid_run_changes_no_bit(client: Client) -> None:
    """The KV cache is one of the host's models: unloading frees it, replay makes it again."""
    run = client.run(controlled(33, "unload", "unload"))
    state, *loaded, bytes_left = seen(run)
    assert state == "done" and "LongtakeKVCache" in loaded and bytes_left == "0"
    assert packets(saved(client, run)) == packets(plain(client, 33, "never"))


def test_free_leaves_no_rollout_and_no_kv_cache_behind(client: Client) -> None:
    def alive(asked: int) -> list[int]:
        names = "HostRollout HostFrames KVCache KVMemory HotState"
        run = client.run({"1": node("LiveObjects", names=names, asked=asked)})
        return [int(count) for count in run.outputs["1"]["text"]]

    client.run(example(seed=34))
    rollouts, frames, caches, _, states = alive(1)
    assert rollouts and frames and caches == 0  # kept for the next prompt, without their memory
    assert states >= 1  # a copy within a budget, to go on from; other runs may have left theirs

    async def free() -> None:
        body = {"unload_models": True, "free_memory": True}
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.post(f"{client.url}/free", json=body),
        ):
            pass

    asyncio.run(free())
    client.run({"1": node("LiveObjects", names="", asked=2)})  # the core frees after a prompt
    assert alive(3) == [0, 0, 0, 0, 0]


def test_cancel_while_paused_keeps_a_playable_file_and_the_next_run_goes_on(
    client: Client,
) -> None:
    async def cancel(client: Client, name: str, data: Any) -> None:
        if name == "longtake.chunk" and data["chunk"] == 2:
            await asyncio.sleep(0.5)
            await client.interrupt()

    workflow = controlled(35, "pause", "pause")
    paused = client.run(workflow, cancel)
    assert paused.end[0] == "execution_interrupted"
    assert frame_count(newest_clip(client)) == 33
    resumed = client.run(workflow)
    assert resumed.values(SAMPLER)[0] > 3
    assert packets(saved(client, resumed)) == packets(plain(client, 35, "unpaused"))


def test_a_plan_makes_no_file_and_no_error(client: Client) -> None:
    workflow = example(seed=36)
    workflow[SAMPLER]["inputs"]["plan_only"] = True
    workflow["20"] = collected(DECODE)
    workflow["21"] = node("SaveImage", images=["20", 0], filename_prefix="core/plan")
    before = {path for path in client.base.glob("output/**/*") if path.is_file()}
    run = client.run(workflow)
    assert run.end[0] == "execution_success", run.end
    assert not run.values(SAMPLER) and "21" not in run.outputs
    assert {path for path in client.base.glob("output/**/*") if path.is_file()} == before
    workflow[SAMPLER]["inputs"]["plan_only"] = False
    assert saved(client, client.run(workflow)).is_file()


def test_a_shot_without_an_end_is_made_until_stop(client: Client) -> None:
    workflow = controlled(37, "endless", "stop", chunk=3)
    workflow[SAMPLER]["inputs"].update(length=0.0)
    run = client.run(workflow)
    assert seen(run) == ["stopped"] and frame_count(saved(client, run)) == 45
