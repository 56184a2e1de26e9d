"""The recurrent network against its equations, written out frame by frame and gate by gate."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from longtake.attention.states.cache import StateReader
from longtake.model.dit import PassOptions
from longtake.model.recurrent.config import RecurrentConfig
from longtake.model.recurrent.forward import predict, project_text
from longtake.model.recurrent.network import RecurrentNetwork
from longtake.tests.support.tiny_model import randn, randomise

FRAMES, ROWS, COLUMNS, WORDS = 3, 4, 6, 2
CONFIG = RecurrentConfig(dim=6, num_layers=2, text_dim=5, in_channels=4, out_channels=4)
TIMES = torch.tensor([[900.0, 400.0, 25.0]])


def network() -> RecurrentNetwork:
    tree = RecurrentNetwork(CONFIG)
    randomise(tree, 1)
    return tree.eval().requires_grad_(False)


def prompt() -> Tensor:
    """A prompt (1, 1, l, text_dim) of WORDS words, filled up with zeros."""
    words = torch.zeros(1, 1, 5, CONFIG.text_dim)
    words[:, :, :WORDS] = randn(WORDS, CONFIG.text_dim, seed=3)
    return words


def normalised(x: Tensor, norm: torch.nn.Module) -> Tensor:
    """All channels and places of one frame (1, c, h, w) together: group norm of one group."""
    mean, variance = x.mean(), x.var(correction=0)
    weight, bias = (p.view(1, -1, 1, 1) for p in (norm.weight, norm.bias))
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias  # type: ignore[operator]


def silu(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


def mlp(layers: torch.nn.Module, x: Tensor) -> Tensor:
    first, _, last = layers  # type: ignore[misc]
    return last(silu(first(x)))


def time_waves(t: float) -> Tensor:
    """256 numbers: cosines, then sines, of t over 10000^(i / 128)."""
    angles = [t * 10_000 ** (-i / 128) for i in range(128)]
    return torch.tensor([[*map(math.cos, angles), *map(math.sin, angles)]])


def by_hand(tree: RecurrentNetwork, x: Tensor) -> tuple[Tensor, list[list[tuple[Tensor, Tensor]]]]:
    """Velocities (f, c, h, w), and hidden state and cell of each layer after each frame."""
    nothing = torch.zeros(1, CONFIG.dim, ROWS, COLUMNS)
    states = [(nothing, nothing)] * CONFIG.num_layers
    velocities, after = [], []
    words = mlp(tree.text_embedding, prompt()[0, :, :WORDS].mean(1))
    for i in range(FRAMES):
        y = tree.stem(x[i : i + 1])
        condition = words + mlp(tree.time_embedding, time_waves(float(TIMES[0, i])))
        for number, layer in enumerate(tree.layers):
            hidden, cell = states[number]
            both = layer.modulation(condition)[0]  # type: ignore[operator]
            shift, scale = (part.view(1, -1, 1, 1) for part in both.view(2, -1))
            z = normalised(y, layer.norm) * (1 + scale) + shift  # type: ignore[arg-type]
            four = layer.gates(torch.cat([z, hidden], 1))  # type: ignore[operator]
            enters, stays, leaves, new = four.view(1, 4, -1, ROWS, COLUMNS).unbind(1)
            cell = cell / (1 + (-stays - 1).exp()) + new.tanh() / (1 + (-enters).exp())
            hidden = cell.tanh() / (1 + (-leaves).exp())
            y = y + layer.out(silu(hidden))  # type: ignore[operator]
            states[number] = hidden, cell
        velocities.append(tree.head(silu(normalised(y, tree.norm))))
        after.append(list(states))
    return torch.cat(velocities), after


@torch.no_grad()
def test_a_pass_is_a_convlstm_frame_by_frame() -> None:
    """Input, forget, output and new: the gates of arXiv 1506.04214, a forget bias of 1."""
    tree, x = network(), randn(FRAMES, 4, ROWS, COLUMNS, seed=2)
    zeros = torch.zeros(1, ROWS * COLUMNS, 1, CONFIG.dim)
    history = StateReader([(zeros, zeros)] * CONFIG.num_layers, slice(None))
    text = project_text(tree, prompt())
    ours = predict(tree, x[None], TIMES, text, history, PassOptions(keep=True))
    velocities, after = by_hand(tree, x)
    torch.testing.assert_close(ours.velocity[0], velocities, rtol=1e-4, atol=1e-5)
    for layer, pair in enumerate(ours.keys_values):
        for part in (0, 1):
            states = [by_layer[layer][part].flatten(2).mT for by_layer in after]
            torch.testing.assert_close(pair[part][:, :, 0], torch.cat(states, 1))
