"""What outlives a prompt in the real core: several rollouts' states under one budget, and what the
host's memory calls and other users of the same weights do to them. No bit of any video changes.
"""

from __future__ import annotations

import asyncio
from ast import literal_eval
from pathlib import Path

import aiohttp
import pytest

from longtake.tests.in_core.support.client import Client, Run, Workflow
from longtake.tests.in_core.support.graphs import (
    CONTROL,
    DECODE,
    LOAD,
    SAMPLER,
    controlled,
    named,
    node,
)
from longtake.tests.in_core.support.outputs import packets, plain, saved, seen

pytestmark = pytest.mark.usefixtures("fresh_journal")

SEEDS = (71, 72, 73)
COUNT = "30"


def shot(seed: int, frames: float, snapshots: int) -> Workflow:
    """A short shot; `snapshots` says that its state may go to disk, 0 that it may not."""
    workflow = named(seed, f"session{seed}")
    workflow[SAMPLER]["inputs"].update(length=frames, snapshot_chunks=snapshots)
    return workflow


def states_alive(client: Client, asked: int) -> int:
    run = client.run({COUNT: node("LiveObjects", names="HotState", asked=asked)})
    return int(run.outputs[COUNT]["text"][0])


def budgeted(workflow: Workflow, budget: float, once: str) -> Workflow:
    """The same, setting the budget of resting states in mid-run."""
    inputs = {"chunk": 0, "control": "budget", "text": str(budget), "once": once}
    return {**workflow, CONTROL: node("ControllingOutput", frames=[DECODE, 0], **inputs)}


def free(client: Client) -> None:
    async def post() -> None:
        body = {"unload_models": True, "free_memory": True}
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.post(f"{client.url}/free", json=body),
        ):
            pass

    asyncio.run(post())
    client.run({COUNT: node("LiveObjects", names="", asked=-1)})  # the core frees after a prompt


def snapshots(client: Client) -> list[Path]:
    folder = client.base / "output" / "longtake" / ".rollouts"
    return sorted(folder.glob("*.state.safetensors"))


def video(client: Client, workflow: Workflow) -> tuple[Run, bytes]:
    run = client.run(workflow)
    assert run.end[0] == "execution_success", run.end
    return run, packets(saved(client, run))


def test_states_of_several_rollouts_share_a_budget_and_go_to_disk_or_are_replayed(
    client: Client,
) -> None:
    free(client)
    run = client.run(budgeted(shot(SEEDS[0], 45.0, 1000), 1e12, "measure"))
    assert seen(run)[1:] == ["0", "0"] and states_alive(client, 1) == 1
    run = client.run(budgeted(shot(SEEDS[1], 45.0, 0), 1e12, "measured"))
    size = int(seen(run)[1])  # of the first one's state
    client.run(budgeted(shot(SEEDS[1], 57.0, 0), 2.5 * size, "budget"))
    assert not snapshots(client)
    client.run(shot(SEEDS[2], 45.0, 1000))
    assert states_alive(client, 2) == 2 and len(snapshots(client)) == 1  # the first gave way
    longer = {}
    for seed in SEEDS:
        run, longer[seed] = video(client, shot(seed, 69.0, 1000 if seed != SEEDS[1] else 0))
        assert min(run.values(SAMPLER)) > 3  # nothing finished was made again
    for seed in SEEDS:
        assert longer[seed] == other_length(client, seed)
    client.run(budgeted(shot(SEEDS[0], 9.0, 0), 1e12, "roomy"))  # for whoever shares this core


def other_length(client: Client, seed: int) -> bytes:
    """The long one from nothing."""
    plain(client, 1, "empties the journal")
    free(client)
    return video(client, shot(seed, 69.0, 0))[1]


@pytest.mark.parametrize(("seed", "snapshot_chunks"), [(74, 1000), (77, 0)])
def test_free_between_prompts_takes_the_states_and_changes_no_bit(
    client: Client, seed: int, snapshot_chunks: int
) -> None:
    """With snapshots asked for they go to disk, else what follows is replayed."""
    client.run(shot(seed, 45.0, snapshot_chunks))
    free(client)
    assert states_alive(client, seed) == 0
    assert len(snapshots(client)) == bool(snapshot_chunks)
    run, longer = video(client, shot(seed, 69.0, snapshot_chunks))
    assert min(run.values(SAMPLER)) > 3
    assert longer == other_length(client, seed)


def test_free_memory_in_mid_run_takes_the_caches_and_changes_no_bit(client: Client) -> None:
    run = client.run(controlled(75, "free_memory", "free_memory"))
    state, left = seen(run)
    assert (state, left) == ("done", "0")
    assert packets(saved(client, run)) == packets(plain(client, 75, "never"))


@pytest.mark.parametrize("strength", [0.7])
def test_another_nodes_lora_on_the_same_base_between_chunks_changes_no_weight_and_no_bit(
    client: Client, strength: float
) -> None:
    workflow = named(76, "beside")
    workflow["11"] = node("LoraLoaderModelOnly", model=[LOAD, 0], lora_name="random.safetensors",
                          strength_model=strength)  # fmt: skip
    workflow["12"] = node("OtherUser", frames=[DECODE, 0], model=["11", 0])
    run, beside = video(client, workflow)
    ours, theirs = (literal_eval(text) for text in run.outputs["12"]["text"])
    assert len({*ours}) == len({*theirs}) == 1 and ours[0] != theirs[0] and len(ours) == 6
    assert beside == packets(plain(client, 76, "alone"))
