"""The layers beside a state against their equations, written out for each token and head."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from longtake.model.delta import delta_hooks, gates
from longtake.tests.support.tiny_model import TINY, randn, random_dit

FRAMES, TOKENS, HEADS = 2, 3, TINY.num_heads
TREE = random_dit(replace(TINY, state="delta"))
LAYERS: Any = TREE.blocks[0].self_attn.delta
VALUES = randn(1, FRAMES, TOKENS, HEADS, TINY.dim // HEADS, seed=4)


def one_output(layer: Any, head: int, x: list[float]) -> float:
    """One output of a linear layer."""
    weight, bias = layer.weight[head].tolist(), float(layer.bias[head])
    return sum(w * value for w, value in zip(weight, x, strict=True)) + bias


def test_a_token_has_its_strength_and_a_frame_the_decay_of_its_mean() -> None:
    ours = gates(TREE, 0, VALUES)
    for frame in range(FRAMES):
        tokens = [VALUES[0, frame, token].flatten().tolist() for token in range(TOKENS)]
        mean = [sum(channel) / TOKENS for channel in zip(*tokens, strict=True)]
        for head in range(HEADS):
            for token, x in enumerate(tokens):
                strength = 1 / (1 + math.exp(-one_output(LAYERS.strength, head, x)))
                assert abs(float(ours.strength[0, frame, token, head]) - strength) < 1e-5
            decay = 1 / (1 + math.exp(one_output(LAYERS.decay, head, mean)))  # exp(-softplus)
            assert abs(float(ours.decay[0, frame, head]) - decay) < 1e-5


def test_an_answer_passes_a_gate_of_the_values_and_a_projection() -> None:
    v, answers = VALUES.flatten(1, 2), randn(1, FRAMES * TOKENS, *VALUES.shape[3:], seed=5)
    (add,) = delta_hooks(TREE, lambda layer, q: answers).in_attention
    ours = add(0, v, v, v)
    for token in range(FRAMES * TOKENS):
        x = v[0, token].flatten().tolist()
        linear = [one_output(LAYERS.gate, i, x) for i in range(TINY.dim)]
        opened = [y / (1 + math.exp(-y)) for y in linear]  # SiLU
        passed = torch.tensor(opened) * answers[0, token].flatten()
        torch.testing.assert_close(ours[0, token], LAYERS.out.weight @ passed)
