"""Rollouts as objects in the real core: forked, saved and loaded, compared; nothing made twice, and
nothing changed by what the host does to memory in between.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from longtake.tests.in_core.support.client import Client, Run, Workflow
from longtake.tests.in_core.support.graphs import (
    DECODE,
    LOAD,
    PREVIEW,
    SAMPLER,
    SAVE,
    TIMELINE,
    controlled,
    example,
    named,
    node,
)
from longtake.tests.in_core.support.outputs import frames_of, packets, plain, saved, seen

pytestmark = pytest.mark.usefixtures("fresh_journal")

PROMPT = "snowy mountains at sunset"
ONE_PROMPT = "0: a red ball over green hills at noon"
FORK, FORK_DECODE, KEEP, OPEN = "20", "21", "22", "23"


def shot(seed: int, name: str, lines: str = "") -> Workflow:
    """The example of one prompt, and more lines, without its preview."""
    workflow = named(seed, name)
    workflow[TIMELINE]["inputs"]["text"] = ONE_PROMPT + lines
    return workflow


def forked(seed: int, name: str) -> Workflow:
    """The same, forked at 1.3 s under another prompt; the fork is saved."""
    workflow = shot(seed, name)
    fork = {"action": "fork", "at": 1.3, "more": 5.0, "new_prompt": PROMPT, "new_seed": -1,
            "new_guidance": -1.0, "length": 0.0}  # fmt: skip
    workflow[FORK] = node("LongtakeEditRollout", rollout=[SAMPLER, 0], **fork)
    workflow[DECODE]["inputs"]["rollout"] = [FORK, 0]
    return workflow


def made(run: Run, at: str) -> list[int]:
    """How far the node's own making of chunks went."""
    assert run.end[0] == "execution_success", run.end
    return run.values(at)


def test_a_fork_is_the_line_that_says_the_same_and_shares_its_source(client: Client) -> None:
    source = client.run(shot(41, "source"))
    assert made(source, SAMPLER)
    fork = client.run(forked(41, "fork"))
    assert made(fork, FORK)[0] > 2 and SAMPLER in fork.cached  # its first two are the source's
    line = plain_of(client, shot(41, "line", f"\n1.3: {PROMPT}"))
    assert packets(saved(client, fork)) == packets(line)
    assert packets(saved(client, source)) != packets(line)


def plain_of(client: Client, workflow: Workflow) -> Path:
    """The video of a workflow, generated from nothing."""
    plain(client, 1, "other")  # empties the journal
    return saved(client, client.run(workflow))


def test_a_saved_rollout_is_listed_and_comes_back(client: Client) -> None:
    workflow = shot(42, "whole")
    workflow[KEEP] = node("LongtakeSaveRollout", rollout=[SAMPLER, 0], vae=[LOAD, 2],
                          filename_prefix="longtake/kept")  # fmt: skip
    run = client.run(workflow)
    [entry] = run.outputs[KEEP]["longtake_files"]
    name = f"{entry['subfolder']}/{entry['filename']} [output]"
    listed = json.loads(client.get("/object_info/LongtakeLoadRollout"))
    options = listed["LongtakeLoadRollout"]["input"]["required"]["file"]
    assert name in json.dumps(options)
    loaded = {number: workflow[number] for number in (LOAD, SAVE)}
    loaded[OPEN] = node("LongtakeLoadRollout", file=name, model=[LOAD, 0], clip=[LOAD, 1])
    loaded[DECODE] = node("LongtakeVAEDecode", rollout=[OPEN, 0], vae=[LOAD, 2])
    again = client.run(loaded)
    assert made(again, OPEN) == []  # nothing is generated
    assert packets(saved(client, again)) == packets(saved(client, run))


def test_a_fork_is_compared_with_its_source_beside_a_preview_of_it(client: Client) -> None:
    workflow = {**forked(43, "both"), PREVIEW: example(seed=43)[PREVIEW]}
    workflow[FORK_DECODE] = node("LongtakeVAEDecode", rollout=[SAMPLER, 0], vae=[LOAD, 2])
    workflow["24"] = node("LongtakeCompareRollouts", frames_a=[FORK_DECODE, 0],
                          frames_b=[DECODE, 0], layout="row", labels=" \n ")  # fmt: skip
    workflow[SAVE]["inputs"]["frames"] = ["24", 0]
    run = client.run(workflow)
    assert run.end[0] == "execution_success", run.end
    frames = frames_of(saved(client, run))
    assert len(frames) == 69 and frames[0].shape == (64, 192, 3)
    early, late = frames[4].astype(int), frames[-1].astype(int)
    assert abs(early[:, :96] - early[:, 96:]).mean() < 2 < abs(late[:, :96] - late[:, 96:]).mean()


def test_info_shows_the_tree(client: Client) -> None:
    client.run(shot(44, "source"))
    client.run(forked(44, "fork"))
    workflow = forked(44, "fork")
    workflow["25"] = node("LongtakeRolloutInfo", rollout=[FORK, 0])
    [text] = client.run(workflow).outputs["25"]["text"]
    assert "6 of 6 chunks exist" in text and f"from 0:01.3: prompt {PROMPT}" in text


def test_free_while_paused_changes_no_bit(client: Client) -> None:
    async def free_and_resume(client: Client, name: str, data: Any) -> None:
        if name != "longtake.chunk" or data["chunk"] != 2:
            return
        await asyncio.sleep(0.5)
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            body = {"unload_models": True, "free_memory": True}
            await session.post(f"{client.url}/free", json=body)
            attach = f"{client.url}/longtake/attach"
            async with session.post(attach, json={"client_id": "test"}) as answer:
                token = (await answer.json())["takes"][-1]["take"]
            control = f"{client.url}/longtake/takes/{token}/control"
            async with session.post(control, json={"op": "resume", "rev": 99}) as answer:
                assert (await answer.json())["state"] == "running"

    workflow = {**controlled(45, "free", "pause"), PREVIEW: example(seed=45)[PREVIEW]}
    run = client.run(workflow, free_and_resume)
    assert seen(run) == ["done"]
    assert packets(saved(client, run)) == packets(plain(client, 45, "never freed"))
