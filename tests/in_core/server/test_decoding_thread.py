"""Decoding beside the next chunk in the real core: the bits, cancel and resume as in turn."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from longtake.tests.in_core.support.client import Client
from longtake.tests.in_core.support.graphs import PREVIEW, SAMPLER, SAVE, example, node
from longtake.tests.in_core.support.outputs import frame_count, newest_clip, packets, saved

pytestmark = pytest.mark.usefixtures("fresh_journal")


def forget_chunks(client: Client) -> None:
    shutil.rmtree(client.base / "output" / "longtake" / ".rollouts")


def test_a_thread_each_side_gives_the_bits_of_one_thread_in_turn(
    client: Client, client_of_two_threads: Client
) -> None:
    findings = client_of_two_threads.run({"1": node("LongtakeDoctor")}).outputs["1"]["text"][0]
    assert "small models: 1 to make chunks, 1 to decode" in findings
    ahead = client_of_two_threads.run(example(seed=51))
    assert ahead.end[0] == "execution_success"
    made = packets(saved(client_of_two_threads, ahead))
    forget_chunks(client)
    in_turn = client.run(example(seed=51))
    assert in_turn.values(SAMPLER)[0] == 1 and packets(saved(client, in_turn)) == made


def test_cancel_and_resume(client_of_two_threads: Client) -> None:
    client = client_of_two_threads

    async def cancel(client: Client, name: str, data: Any) -> None:
        if name == "longtake.chunk" and data["chunk"] == 2:
            await client.interrupt()

    workflow = example(seed=52, frames=141)
    stopped = client.run(workflow, cancel)
    assert stopped.end[0] == "execution_interrupted"
    assert 21 <= frame_count(newest_clip(client)) < 141
    resumed = client.run(workflow)
    assert resumed.end[0] == "execution_success"
    assert resumed.values(SAMPLER)[0] > max(stopped.values(SAMPLER))
    forget_chunks(client)
    workflow[SAVE]["inputs"]["filename_prefix"] = "longtake/uninterrupted"
    whole = client.run(workflow)
    assert packets(saved(client, whole)) == packets(saved(client, resumed))


def test_two_shots_of_one_vae_side_by_side_are_as_each_alone(
    client_of_two_threads: Client,
) -> None:
    client, both = client_of_two_threads, example(seed=53)
    del both[PREVIEW]
    both["15"] = {**both[SAMPLER], "inputs": {**both[SAMPLER]["inputs"], "seed": 54}}
    both["16"] = node("LongtakeVAEDecode", rollout=["15", 0], vae=["1", 2])
    both["18"] = {**both[SAVE], "inputs": {**both[SAVE]["inputs"], "frames": ["16", 0]}}
    both["18"]["inputs"]["filename_prefix"] = "longtake/beside"
    together = client.run(both)
    assert together.end[0] == "execution_success"
    forget_chunks(client)
    for at, seed in ((SAVE, 53), ("18", 54)):
        alone = client.run(example(seed=seed))
        assert packets(saved(client, alone)) == packets(saved(client, together, at))
