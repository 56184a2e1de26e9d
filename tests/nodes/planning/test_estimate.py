"""What counts when a plan says that a rollout fits: weights once, wherever the host has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from longtake.errors import BadInput
from longtake.samplers.planning.memory import RolloutMemory
from longtake.tests.support.node_bench import Bench

GB = 2**30
CPU, CARD = torch.device("cpu"), torch.device("cuda")
LARGEST, OTHER = 100 * 60 * 4, 60 * 20 * 4  # bytes of the two layers


class HostLinear(nn.Linear):
    """A layer of the host's, which fetches its weight."""

    comfy_cast_weights = False  # not now


def patcher(
    load_device: torch.device, kept_on: str = "cpu", kinds: Sequence[type] = (nn.Linear, nn.Linear)
) -> Any:
    """A MODEL that computes on `load_device`, with its weights elsewhere for now."""
    first, second = kinds
    layers = first(100, 60, bias=False), second(60, 20, bias=False)
    return SimpleNamespace(model=nn.Sequential(*layers).to(kept_on), load_device=load_device)


@pytest.mark.parametrize(
    ("given", "counted", "least"),
    [
        (patcher(CPU), 0, 0),
        (patcher(CPU, "meta"), LARGEST + OTHER, LARGEST + OTHER),
        (patcher(CARD), LARGEST + OTHER, LARGEST + OTHER),
        (patcher(CARD, kinds=(HostLinear, HostLinear)), LARGEST + OTHER, LARGEST),
        (patcher(CARD, kinds=(HostLinear, nn.Linear)), LARGEST + OTHER, LARGEST + OTHER),
    ],
    ids=["there", "not there yet", "loaded as a whole", "fetched", "fetched in part"],
)
def test_weights_count_once_and_only_where_they_are_not_yet(
    bench: Bench, given: Any, counted: int, least: int
) -> None:
    from longtake.nodes import host

    assert host.weights(given) == host.Weights(LARGEST + OTHER, counted, least)
    both = host.weights(given) + host.weights(patcher(CPU))
    assert both == host.Weights(2 * (LARGEST + OTHER), counted, least)


def test_a_plan_leaves_alone_what_the_host_keeps_free_for_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--reserve-vram; a claim asks the host for that much more."""
    import comfy.model_management as management

    from longtake.nodes import host

    monkeypatch.setattr(management, "get_total_memory", lambda device: 24 * GB)
    monkeypatch.setattr(management, "get_free_memory", lambda device: 8 * GB)
    monkeypatch.setattr(management, "extra_reserved_memory", lambda: 4.5 * GB)
    assert host.usable_memory_bytes(CARD) == 19.5 * GB
    assert host.usable_memory_bytes(CPU) == 8 * GB


def estimate(free_gb: int, counted_gb: int, least_gb: int) -> Any:
    """Of a rollout with caches of 4 GB, passes of 2 GB and weights of 5 GB."""
    from longtake.nodes import host
    from longtake.nodes.length import FRAMES, snapped_length
    from longtake.nodes.planning.estimate import Estimate

    length = snapped_length(33.0, FRAMES, 16.0, 3)
    weights = host.Weights(5 * GB, counted_gb * GB, least_gb * GB)
    memory = RolloutMemory(4 * GB, 2 * GB)
    return Estimate(length, 3, memory, weights, free_gb * GB, "KV cache 4.0 GB", "lower width")


@pytest.mark.parametrize(
    ("counted", "least", "free", "fits", "text"),
    [
        (0, 0, 6, True, "KV cache 4.0 GB, model weights 5.0 GB (already in memory)."),
        (0, 0, 5, False, "needs 6.0 GB of memory (4.0 GB for the KV cache, 2.0 GB for a pass of"),
        (5, 5, 11, True, "Memory 11.0 GB.\nKV cache 4.0 GB, model weights 5.0 GB."),
        (5, 5, 10, False, "needs 11.0 GB of memory"),
        (5, 1, 10, True, "model weights 5.0 GB (1.0 GB of it offloaded)."),
        (5, 1, 7, True, "model weights 5.0 GB (4.0 GB of it offloaded)."),
        (5, 1, 6, False, "1.0 GB for weights), but only 6.0 GB is available; lower width."),
    ],
)
def test_a_plan_says_what_it_counts_and_whether_that_fits(
    bench: Bench, counted: int, least: int, free: int, fits: bool, text: str
) -> None:
    made = estimate(free, counted, least).plan
    assert (made.frames, made.seconds, made.chunks) == (33, 33 / 16, 3)
    assert made.fits is fits and text in made.text


def test_decoding_adds_to_what_must_fit(bench: Bench) -> None:
    """Passes and decoding come by turns; the VAE's weights and its state stay."""
    from longtake.model.vae.decoder_memory import DecoderMemory
    from longtake.nodes import host

    memory, decoder = RolloutMemory(4 * GB, 2 * GB), DecoderMemory(GB, 3 * GB)
    weights = host.Weights(6 * GB, 6 * GB, 6 * GB)
    for free, fits in ((14, True), (13, False)):
        made = estimate(free, 5, 5).with_decoder(memory, decoder, weights).plan
        assert made.fits is fits and made.decode_bytes == 4 * GB
        refusal = "needs 14.0 GB of memory (4.0 GB for the KV cache, 4.0 GB for passes and decoding"
        assert (refusal in made.text) is not fits
        assert made.text.endswith("is available; lower width, height or chunk_frames.") is not fits


def test_decoding_on_another_device_takes_nothing_of_this_one(bench: Bench) -> None:
    from longtake.model.vae.decoder_memory import DecoderMemory
    from longtake.nodes import host
    from longtake.nodes.planning.decoding import DecodingApart

    def made(free: int, there: int) -> Any:
        weights, memory = host.Weights(GB, GB, GB), DecoderMemory(GB, 3 * GB)
        apart = DecodingApart(torch.device("cuda", 1), memory, weights, there * GB)
        planned = replace(estimate(free, 5, 5), apart=apart)
        assert planned.beside_bytes == 5 * GB  # the model's weights
        return planned.plan

    plan = made(11, 5)
    assert plan.fits and (plan.decode_bytes, plan.decode_device) == (4 * GB, "cuda:1")
    assert "Memory 11.0 GB and, on cuda:1, 5.0 GB.\n" in plan.text
    assert plan.text.endswith("On cuda:1: decoding 4.0 GB, VAE weights 1.0 GB.")
    assert "decoding" not in plan.text.split("On cuda:1")[0]
    assert not made(10, 5).fits and "a pass of the model" in made(10, 5).text
    refusal = made(11, 4)
    assert not refusal.fits
    assert refusal.text == (
        "Decoding needs 5.0 GB of memory on cuda:1, but only 4.0 GB is available there; set "
        "decode_on to another device, or lower width, height or chunk_frames."
    )


def test_a_rollout_is_refused_for_weights_that_are_not_there_yet(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes import host

    needed = bench.frames(plan_only=True).rollout.footprint.max_bytes
    monkeypatch.setattr(host, "usable_memory_bytes", lambda device: needed)
    assert bench.frames(plan_only=True).rollout.plan.fits
    monkeypatch.setattr(host, "weights", lambda patcher: host.Weights(needed, needed, needed))
    with pytest.raises(BadInput, match="for weights., but only .* is available"):
        bench.frames()
