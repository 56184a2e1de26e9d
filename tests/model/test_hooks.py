"""Hooks change a pass where their file says, in its order; none leaves every bit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.model.cross_attention import TextWays, attend_to_text
from longtake.model.dit import PassOptions, predict, project_text
from longtake.model.hooks import NO_HOOKS, Hooks
from longtake.tests.support.tiny_model import TINY, embedding, randn, random_dit

FRAMES, ROWS, COLUMNS = 3, 4, 6
TREE = random_dit()


def velocity(hooks: Hooks | None = None, tree: Any = TREE) -> Tensor:
    """One pass over random latents."""
    x = randn(1, FRAMES, TINY.in_channels, ROWS, COLUMNS, seed=1)
    text = project_text(tree, embedding(2)[None, None])
    attention = WholeSequence(rotation(range(FRAMES), ROWS // 2, COLUMNS // 2, TINY.head_dim))
    options = PassOptions() if hooks is None else PassOptions(hooks=hooks)
    return predict(tree, x, torch.full((1, FRAMES), 500.0), text, attention, options).velocity


def test_no_hook_leaves_every_bit() -> None:
    assert torch.equal(velocity(), velocity(NO_HOOKS))
    token, layer = (lambda x: x,), (lambda _, x: x,)
    same = Hooks(patches=token, time=token, after_attention=layer, after_block=layer)
    assert torch.equal(velocity(), velocity(same))


def test_hooks_are_called_in_the_order_that_their_file_gives() -> None:
    calls: list[object] = []

    def note(name: str, x: Tensor, layer: int = -1) -> Tensor:
        calls.append((name, layer, [*x.shape]))
        return x

    hooks = Hooks(
        patches=(lambda x: note("patches", x),),
        time=(lambda e: note("time", e),),
        in_attention=(lambda i, q, k, v: 0 * note("in", q.flatten(-2), i),),
        after_attention=(lambda i, x: note("after attention", x, i),),
        after_block=(lambda i, x: note("after block", x, i),),
    )
    velocity(hooks)
    tokens, s = [1, FRAMES, 6, TINY.dim], [1, FRAMES * 6, TINY.dim]
    expected: list[object] = [("patches", -1, tokens), ("time", -1, [1, FRAMES, TINY.dim])]
    for layer in range(TINY.num_layers):
        expected += [("in", layer, s), ("after attention", layer, tokens)]
        expected += [("after block", layer, tokens)]
    assert calls == expected


def test_each_place_of_a_hook_is_the_sum_that_a_bias_there_would_give() -> None:
    """Adding a constant at a place equals adding it to the bias of the layer before that place."""
    shift = 0.3 * randn(TINY.dim, seed=5)

    def with_bias(module: Any, result: Tensor) -> None:
        before = module.bias.clone()
        module.bias.add_(shift)
        assert torch.allclose(velocity(), result, atol=1e-5)
        assert not torch.allclose(velocity(), plain, atol=1e-3)
        module.bias.copy_(before)

    plain = velocity()
    with_bias(TREE.patch_embedding, velocity(Hooks(patches=(lambda x: x + shift,))))
    with_bias(TREE.time_embedding[2], velocity(Hooks(time=(lambda e: e + shift,))))
    only_last = Hooks(in_attention=(lambda i, q, k, v: shift.expand(1, q.shape[1], -1) * (i == 1),))
    with_bias(TREE.blocks[1].self_attn.o, velocity(only_last))
    to_text = Hooks(after_block=(lambda i, x: x + shift if i == 0 else x,))
    head_first = Hooks(after_attention=(lambda i, x: x + shift if i == 1 else x,))
    assert not torch.allclose(velocity(to_text), velocity(head_first), atol=1e-3)


def test_the_hook_in_the_prompt_stands_before_the_picture() -> None:
    """Where attention to the prompt is made 0, attention to the picture alone is left."""
    attention = TREE.blocks[0].cross_attn
    words, picture = ((randn(1, 1, 5, TINY.num_heads, TINY.head_dim, seed=i),) * 2 for i in (1, 2))
    x = randn(1, FRAMES, 6, TINY.dim, seed=3)

    def attend(change: float, *sources: Any) -> Tensor:
        ways = TextWays(lambda layer, y: layer(y), changes=(lambda q, out: change * out,))
        return attend_to_text(attention, sources, (), ways, x)

    bias = attend(0.0, words)
    alone = attend(1.0, picture) - bias
    torch.testing.assert_close(attend(0.0, words, picture) - bias, alone)


def test_later_hooks_see_what_earlier_ones_changed() -> None:
    shift = randn(TINY.dim, seed=6)
    double, more = Hooks(patches=(lambda x: 2 * x,)), Hooks(patches=(lambda x: x + shift,))
    both = velocity(double.then(more))
    assert torch.equal(both, velocity(Hooks(patches=(lambda x: 2 * x + shift,))))
    assert not torch.allclose(both, velocity(more.then(double)), atol=1e-3)
