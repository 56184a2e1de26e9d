"""The transformer's laws: cached chunks equal one pass (1), denoising reads (2), no seam (3)."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import CachePolicy, FullHistory, WindowSink
from longtake.attention.dense import WholeSequence, block_causal_mask
from longtake.attention.rope import rotation
from longtake.attention.storage.shape import CacheShape
from longtake.model.cross_attention import KeysValues
from longtake.model.dit import PassOptions, TextKV, WanDiT, predict, project_text
from longtake.tests.support.tiny_model import TINY, embedding, randn, random_dit

ROWS, COLUMNS = 3, 5  # tokens: an odd grid


@pytest.fixture(scope="module")
def dit() -> WanDiT:
    """One random model for all tests here."""
    return random_dit()


def text_of(dit: WanDiT, dtype: torch.dtype = torch.float32) -> TextKV:
    """The projection of one prompt."""
    return project_text(dit, embedding(1)[None, None].to(dtype))


def half_of(dit: WanDiT) -> WanDiT:
    """The same model in bfloat16, as the host has it: all but the patch embedding."""
    half = copy.deepcopy(dit).bfloat16()
    half.patch_embedding.float()
    return half


def latents(frames: int, seed: int = 0) -> Tensor:
    """Random latents (1, f, 4, h, w)."""
    return randn(1, frames, TINY.in_channels, 2 * ROWS, 2 * COLUMNS, seed=seed)


def timesteps(frames: int) -> Tensor:
    """A different timestep for each latent frame, (1, f)."""
    return 1000 * torch.rand(1, frames, generator=torch.Generator().manual_seed(2))


def cache(
    policy: CachePolicy, chunk: int, length: int | None = None, dtype: torch.dtype = torch.float32
) -> KVCache:
    """An empty cache for the tiny model."""
    heads, width = TINY.num_heads, TINY.head_dim
    shape = CacheShape(TINY.num_layers, 1, heads, width, ROWS, COLUMNS, chunk, dtype)
    return KVCache(shape, policy, length)


def chunk_by_chunk(dit: WanDiT, x: Tensor, t: Tensor, kv: KVCache) -> Tensor:
    """Predict and commit chunk after chunk."""
    text, parts, chunk = text_of(dit, x.dtype), [], kv.shape.chunk_frames
    for first in range(0, x.shape[1], chunk):
        part, when = x[:, first : first + chunk], t[:, first : first + chunk]
        out = predict(dit, part, when, text, kv.attention(part.shape[1]), PassOptions(keep=True))
        kv.commit(out.keys_values)
        parts.append(out.velocity)
    return torch.cat(parts, 1)


def one_pass(
    dit: WanDiT, x: Tensor, t: Tensor, chunk: int, window: int | None = None, *, first: int = 0
) -> Tensor:
    """All latent frames at once under a block-causal mask, at positions from `first` on."""
    frames = x.shape[1]
    by = rotation(range(first, first + frames), ROWS, COLUMNS, TINY.head_dim)
    mask = block_causal_mask(frames, ROWS * COLUMNS, chunk, window)
    return predict(dit, x, t, text_of(dit, x.dtype), WholeSequence(by, mask)).velocity


def assert_same(ours: Tensor, expected: Tensor) -> None:
    """Equal to 1e-5 of the largest value."""
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("frames", [1, 7])
@pytest.mark.parametrize("chunk", [1, 3])
def test_chunk_by_chunk_equals_one_pass(dit: WanDiT, chunk: int, frames: int) -> None:
    x, t = latents(frames), timesteps(frames)
    ours = chunk_by_chunk(dit, x, t, cache(FullHistory(), chunk, frames))
    assert_same(ours, one_pass(dit, x, t, chunk))


@pytest.mark.parametrize("chunk", [1, 3])
def test_chunk_by_chunk_equals_one_pass_in_bfloat16_too(dit: WanDiT, chunk: int) -> None:
    """T4: cached against recomputed, both in bfloat16, whose rounding is all that differs."""
    half, x, t = half_of(dit), latents(7).bfloat16(), timesteps(7)
    ours = chunk_by_chunk(half, x, t, cache(FullHistory(), chunk, 7, torch.bfloat16))
    expected = one_pass(half, x, t, chunk)
    assert ours.dtype == expected.dtype == torch.bfloat16
    assert (ours - expected).abs().max() <= 2e-2 * expected.abs().max()


@pytest.mark.parametrize(("chunk", "window"), [(1, 1), (1, 4), (3, 3), (3, 5)])
def test_a_window_equals_one_pass_under_a_windowed_mask(
    dit: WanDiT, chunk: int, window: int
) -> None:
    """In every layer, though positions count from the window here and from the start there."""
    x, t = latents(10), timesteps(10)
    ours = chunk_by_chunk(dit, x, t, cache(WindowSink(window), chunk))
    assert_same(ours, one_pass(dit, x, t, chunk, window))


def test_the_pass_does_not_see_where_the_sequence_starts(dit: WanDiT) -> None:
    x, t = latents(4), timesteps(4)
    assert_same(one_pass(dit, x, t, 3, first=5_000), one_pass(dit, x, t, 3))


def test_later_chunks_never_change_earlier_ones(dit: WanDiT) -> None:
    x, t = latents(6), timesteps(6)
    changed = torch.cat([x[:, :3], latents(3, seed=9)], 1)
    before, after = one_pass(dit, x, t, 3), one_pass(dit, changed, t, 3)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before[:, 3:], after[:, 3:])


def test_noisy_passes_and_a_commit_leave_what_the_commit_alone_leaves(dit: WanDiT) -> None:
    text, clean = text_of(dit), latents(3)
    caches = [cache(WindowSink(4, 1), 3) for _ in range(2)]
    for kv in caches:
        chunk_by_chunk(dit, latents(6, seed=4), torch.zeros(1, 6), kv)
    for step in range(4):
        predict(dit, latents(3, seed=step), timesteps(3), text, caches[0].attention(3))
    for kv in caches:
        kv.commit(
            predict(
                dit, clean, torch.zeros(1, 3), text, kv.attention(3), PassOptions(keep=True)
            ).keys_values
        )
    for layer in range(TINY.num_layers):
        for ours, expected in zip(caches[0].history(layer), caches[1].history(layer), strict=True):
            assert torch.equal(ours, expected)


@pytest.mark.parametrize("sink", [0, 1])
def test_no_seam_after_five_thousand_latent_frames(dit: WanDiT, sink: int) -> None:
    """The same window of the same keys gives the same values at frame 30 and at frame 5,000."""
    text, x = text_of(dit), latents(3)
    kv = cache(WindowSink(6, sink), 3)
    frame_kv = predict(
        dit, x, torch.zeros(1, 3), text, kv.attention(3), PassOptions(keep=True)
    ).keys_values
    at = {}
    while kv.committed < 5_010:
        kv.commit(frame_kv)
        if kv.committed in (30, 5_001, 5_010):
            at[kv.committed] = predict(dit, x, timesteps(3), text, kv.attention(3)).velocity
    assert_same(at[30], at[5_010])  # the ring stands the same way in both
    assert_same(at[30], at[5_001])


def test_frames_meet_only_in_attention(dit: WanDiT) -> None:
    """With nothing to attend to, each latent frame answers to its own timestep alone."""

    def nothing(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.zeros_like(v)

    order = [2, 0, 3, 1]
    x, t, text = latents(4), timesteps(4), text_of(dit)
    plain = predict(dit, x, t, text, nothing).velocity
    swapped = predict(dit, x[:, order], t[:, order], text, nothing).velocity
    torch.testing.assert_close(swapped, plain[:, order])
    assert not torch.allclose(predict(dit, x, t[:, order], text, nothing).velocity, plain)


def test_padding_tokens_take_part_in_attention(dit: WanDiT) -> None:
    whole, cut = embedding(1)[None, None], embedding(1)[None, None, :3]
    x, t = latents(1), timesteps(1)
    by = rotation([0], ROWS, COLUMNS, TINY.head_dim)
    ours, unpadded = (
        predict(dit, x, t, project_text(dit, c), WholeSequence(by)).velocity for c in (whole, cut)
    )
    assert (ours - unpadded).abs().max() > 1e-3


def test_a_prompt_per_frame_equals_each_frame_with_its_prompt(dit: WanDiT) -> None:
    x, t = latents(3), timesteps(3)

    def alone(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return v

    prompts = project_text(dit, torch.stack([embedding(1), embedding(2)])[None])
    picked = prompts.pick(torch.tensor([0]), torch.tensor([[0, 1, 0]]))
    ours = predict(dit, x, t, picked, alone).velocity
    for frame, seed in enumerate((1, 2, 1)):
        text = project_text(dit, embedding(seed)[None, None])
        one = predict(dit, x[:, frame, None], t[:, frame, None], text, alone).velocity
        torch.testing.assert_close(ours[:, frame, None], one)


def test_keys_and_values_come_un_rotated_and_only_when_asked(dit: WanDiT) -> None:
    seen: list[KeysValues] = []

    def spy(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.append((k, v))
        return v

    x, t, text = latents(2), timesteps(2), text_of(dit)
    assert predict(dit, x, t, text, spy).keys_values == ()
    seen.clear()
    kept = predict(dit, x, t, text, spy, PassOptions(keep=True)).keys_values
    assert len(kept) == len(seen) == TINY.num_layers
    assert all(ours[i] is given[i] for ours, given in zip(kept, seen, strict=True) for i in (0, 1))


def test_a_pass_that_is_not_whole_ends_with_the_same_keys_and_values(dit: WanDiT) -> None:
    attended: list[int] = []
    calls: list[str] = []

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        attended.append(layer)
        return q + k + v

    def note(name: str) -> Callable[..., None]:
        return lambda *_: calls.append(name)

    x, t, text = latents(2), timesteps(2), text_of(dit)
    whole = predict(dit, x, t, text, attend, PassOptions(keep=True))
    attended.clear()
    last: Any = dit.blocks[-1]
    parts = {"attention": last.self_attn.q, "prompt": last.cross_attn.q, "mlp": last.ffn}
    hooks = [part.register_forward_hook(note(name)) for name, part in parts.items()]
    hooks.append(dit.head.head.register_forward_hook(note("head")))
    try:
        short = predict(dit, x, t, text, attend, PassOptions(keep=True, whole=False))
    finally:
        for hook in hooks:
            hook.remove()
    assert attended == [*range(TINY.num_layers - 1)] and not calls
    assert short.velocity.shape == (0, *x.shape[1:])
    assert len(short.keys_values) == TINY.num_layers
    pairs = zip(short.keys_values, whole.keys_values, strict=True)
    assert all(torch.equal(ours[i], given[i]) for ours, given in pairs for i in (0, 1))


def test_the_channels_of_a_token_lie_together_in_every_layer(dit: WanDiT) -> None:
    """Otherwise each norm would copy its tokens, and each sum would read them in two orders."""
    together: list[bool] = []

    def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        together.append(inputs[0].is_contiguous())

    norms = [block.get_submodule(name) for block in dit.blocks for name in ("norm1", "norm2")]
    hooks = [norm.register_forward_pre_hook(look) for norm in [*norms, dit.head.norm]]
    try:
        predict(dit, latents(2), timesteps(2), text_of(dit), lambda layer, q, k, v: q + k + v)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(together) == 2 * TINY.num_layers + 1 and all(together)


def test_every_bare_parameter_goes_through_the_hosts_cast(dit: WanDiT) -> None:
    fetched: list[tuple[int, ...]] = []

    def cast(parameter: Tensor) -> Tensor:
        fetched.append(tuple(parameter.shape))
        return parameter * 2

    x, t = latents(1), timesteps(1)
    by = rotation([0], ROWS, COLUMNS, TINY.head_dim)
    ours = predict(dit, x, t, text_of(dit), WholeSequence(by), PassOptions(cast=cast)).velocity
    assert fetched == [(1, 6, TINY.dim)] * TINY.num_layers + [(1, 2, TINY.dim)]
    doubled = random_dit()
    for name, parameter in doubled.named_parameters():
        if name.endswith("modulation"):
            parameter.mul_(2)
    expected = predict(doubled, x, t, text_of(doubled), WholeSequence(by)).velocity
    torch.testing.assert_close(ours, expected)


def test_batch_rows_do_not_meet(dit: WanDiT) -> None:
    """Guidance branches ride in the batch: each row answers as if it were alone."""
    x, t = latents(2).expand(2, -1, -1, -1, -1), timesteps(2).expand(2, -1)
    context = torch.stack([embedding(1), embedding(2)])[:, None]
    by = rotation(range(2), ROWS, COLUMNS, TINY.head_dim)
    both = predict(dit, x, t, project_text(dit, context), WholeSequence(by)).velocity
    for row in range(2):
        text = project_text(dit, context[row, None])
        one = predict(dit, x[:1], t[:1], text, WholeSequence(by)).velocity
        torch.testing.assert_close(both[row, None], one)


def test_half_precision_stays_near_float32(dit: WanDiT) -> None:
    """Modulation and residuals are float32 inside; the patch embedding is, as in the host."""
    half, x, t = half_of(dit), latents(3), timesteps(3)
    by = rotation(range(3), ROWS, COLUMNS, TINY.head_dim)
    text = TextKV(tuple((k.bfloat16(), v.bfloat16()) for k, v in text_of(dit).layers))
    ours = predict(half, x.bfloat16(), t, text, WholeSequence(by)).velocity
    expected = one_pass(dit, x, t, 3)
    assert ours.dtype == torch.bfloat16
    assert (ours.float() - expected).norm() < 2e-2 * expected.norm()


def test_sizes_that_cannot_be_split_are_refused() -> None:
    with pytest.raises(Exception, match="even size"):
        dataclasses.replace(TINY, num_heads=5)
