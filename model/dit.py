"""The causal Wan-family transformer, written for streaming.

`predict` is a function over a module tree with the official Wan 2.1 names: headless the tree is
`WanDiT`, on the canvas the one inside the host's own Wan MODEL. Only the current chunk is
projected. The `attention` value decides what the chunk looks at, so a cache, a mask and a sparse
pattern are interchangeable.

Equations: Wan-Video/Wan2.1 `wan/modules/model.py`; a timestep per latent frame as in CausVid and
Self-Forcing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ..attention.dense import attend
from ..machine.uploads import upload
from .anyflow.coarse_patches import COARSE_LAYER, add_coarse_patches
from .anyflow.flow_map import add_flow_map_layers
from .arithmetic.block import BlockWays, run_block
from .arithmetic.layers import TORCH_LAYERS, Layers
from .arithmetic.modulation import PLAIN_ARITHMETIC, Arithmetic, modulate
from .arithmetic.times import embed_times
from .blocks import ALL_BLOCKS, Blocks
from .camera.modules import CAMERA_MODULES
from .config import EPS, FREQ_DIM, PATCH, DiTConfig
from .cross_attention import KeysValues, Runs, TextWays, attend_to_text
from .delta import add_delta_layers
from .hooks import NO_HOOKS, Hooks, through, through_layer
from .image_embedding import ImageEmbedding
from .voice import add_voice_layers

SelfAttention = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q, k, v) -> out, all (b, s, n, d) and un-rotated: what the current tokens may look at."""

PromptAttention = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q, k, v) -> out: tokens q (b, s, n, d) to their prompt's k, v (b, l, n, d)."""

EmbedTimes = Callable[[Any, Tensor, Tensor], Tensor]
"""(module tree, timesteps (b, f) on the CPU, latents) -> time embedding (b, f, c) like latents."""

PatchesOf = Callable[[Any], Callable[[Tensor], Tensor]]
"""The embedding of patches in a tree: latents (b, c, f, h, w) to tokens (b, d, f, h', w')."""

Cast = Callable[[Tensor], Tensor]
"""Fetches a bare parameter for use (the host may keep it elsewhere or in another dtype)."""


FINE_PATCHES: PatchesOf = attrgetter("patch_embedding")
COARSE_PATCHES: PatchesOf = attrgetter(COARSE_LAYER)
"""Of models with a coarse past, see `model/anyflow/coarse_patches.py`."""


@dataclass(frozen=True, slots=True)
class TextKV:
    """Cross-attention keys and values per layer, each (b, p, l, n, d).

    p is 1 if all latent frames share the prompt, or the number of latent frames, or the number of
    prompts. In the last case `runs` says which prompt serves how many frames in a row. `image`
    holds keys and values of a reference picture for image-to-video models.
    """

    layers: tuple[KeysValues, ...]
    image: tuple[KeysValues, ...] = ()
    runs: Runs = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and prompts of a row."""
        rows, prompts = self.layers[0][0].shape[:2]
        return rows, prompts

    def of(self, layer: int) -> tuple[KeysValues, ...]:
        """The prompt's keys and values in one layer, then the picture's if there is one."""
        return (self.layers[layer], *self.image[layer : layer + 1])

    def rows(self, indices: Sequence[int]) -> TextKV:
        """Select rows by `indices`; a single shared row is not copied."""
        if len(set(indices)) == 1:
            one, count = slice(indices[0], indices[0] + 1), len(indices)
            return self._each(lambda x: x[one].expand(count, -1, -1, -1, -1))
        picked = upload(torch.tensor([*indices]), self.layers[0][0].device)
        return self._each(lambda x: x[picked])

    def in_runs(self, runs: Runs) -> TextKV:
        """The same prompts, each for so many latent frames in a row; nothing is copied."""
        return replace(self, runs=runs)

    def _each(self, change: Callable[[Tensor], Tensor]) -> TextKV:
        layers, image = (
            tuple((change(k), change(v)) for k, v in part) for part in (self.layers, self.image)
        )
        return TextKV(layers, image)

    def pick(self, batch: Tensor, frames: Tensor) -> TextKV:
        """One prompt per latent frame: prompt `frames` (b, f) of row `batch` (b,)."""
        row = batch[:, None]
        picked = tuple((k[row, frames], v[row, frames]) for k, v in self.layers)
        return TextKV(picked, self.image)


@dataclass(frozen=True, slots=True)
class PassOptions:
    """How a pass differs from a plain one.

    `to_prompt` replaces dense attention to the prompt. `keep` returns the new keys and values of
    every layer, for a commit. `cast` fetches the bare parameters. `hooks` are those of modules
    beside the transformer. A pass that is not `whole` ends with the last layer's keys and values.
    `arithmetic` is what blocks compute between their layers, and `layers` calls these; `blocks` are
    those that run, but for `skipped` ones, of which hooks after a block remain. `times` embeds
    timesteps, or remembers how it did. A pass of other `patches` than fine ones is not whole.
    """

    to_prompt: PromptAttention | None = None
    keep: bool = False
    cast: Cast | None = None
    hooks: Hooks = NO_HOOKS
    whole: bool = True
    arithmetic: Arithmetic = PLAIN_ARITHMETIC
    blocks: Blocks = ALL_BLOCKS
    layers: Layers = TORCH_LAYERS
    times: EmbedTimes = embed_times
    skipped: Collection[int] = ()
    patches: PatchesOf = FINE_PATCHES


PLAIN = PassOptions()


@dataclass(frozen=True, slots=True)
class Prediction:
    """Flow velocity (noise minus clean) like x, and un-rotated keys and values if kept.

    Those of every layer come first, then those that hooks keep. The velocity of a pass that is not
    whole is empty: (0, f, c, h, w).
    """

    velocity: Tensor
    keys_values: tuple[KeysValues, ...]


class WanAttention(nn.Module):
    """Projections and full-width RMS norms of one attention; the arithmetic is in `predict`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = nn.RMSNorm(dim, eps=EPS), nn.RMSNorm(dim, eps=EPS)


class WanBlock(nn.Module):
    """One transformer block: self-attention, attention to the prompt, feed-forward."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=EPS, elementwise_affine=False)
        self.self_attn = WanAttention(config.dim)
        self.norm3 = nn.LayerNorm(config.dim, eps=EPS)
        self.cross_attn = WanAttention(config.dim)
        self.norm2 = nn.LayerNorm(config.dim, eps=EPS, elementwise_affine=False)
        self.ffn = nn.Sequential(
            nn.Linear(config.dim, config.ffn_dim),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.ffn_dim, config.dim),
        )
        self.modulation = nn.Parameter(torch.zeros(1, 6, config.dim))


class WanHead(nn.Module):
    """Projects tokens to the patches of the prediction."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim, eps=EPS, elementwise_affine=False)
        self.head = nn.Linear(config.dim, PATCH**2 * config.out_channels)
        self.modulation = nn.Parameter(torch.zeros(1, 2, config.dim))


class WanDiT(nn.Module):
    """The module tree with exactly the official names; call `predict`, not this."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim = config.dim
        self.dim, self.num_heads = dim, config.num_heads
        patch = 1, PATCH, PATCH
        self.patch_embedding = nn.Conv3d(config.in_channels, dim, patch, patch)
        if config.reads_prompt:
            self.text_embedding = nn.Sequential(
                nn.Linear(config.text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim)
            )
        else:
            self.img_emb = ImageEmbedding(dim)
        time = nn.Linear(FREQ_DIM, dim), nn.SiLU(), nn.Linear(dim, dim)
        self.time_embedding = nn.Sequential(*time)
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(WanBlock(config) for _ in range(config.num_layers))
        self.head = WanHead(config)
        if config.camera != "none":
            CAMERA_MODULES[config.camera].add_layers(self, config, nn.Linear)
        if config.state == "delta":
            add_delta_layers(self, dim, nn.Linear)
        if config.voice:
            add_voice_layers(self, config, nn.Linear)
        if config.flow_map:
            add_flow_map_layers(self, dim, nn.Linear)
        if config.coarse_past:
            add_coarse_patches(self, config.in_channels, dim, nn.Conv3d)


def project_text(tree: Any, context: Tensor, picture: Tensor | None = None) -> TextKV:
    """Cross-attention keys and values of text embeddings `context` (b, p, l, text_dim).

    The context is padded to the family's text length with zeros already; padding takes part in
    attention, unmasked. `picture` (b, 257, 1280) are CLIP vision features of the first frame, for
    models with an image branch.
    """
    text = tree.text_embedding(context)
    layers = project_layers(tree.blocks, text, tree.num_heads)
    return TextKV(layers, () if picture is None else _project_picture(tree, picture))


def project_picture(tree: Any, picture: Tensor) -> TextKV:
    """Cross-attention keys and values of CLIP vision features (b, 257, 1280) as a prompt."""
    tokens = tree.img_emb(picture).unsqueeze(1)
    return TextKV(project_layers(tree.blocks, tokens, tree.num_heads))


def project_layers(blocks: Any, text: Tensor, heads: int) -> tuple[KeysValues, ...]:
    """Keys and values (b, p, l, n, d) of embedded text (b, p, l, c), for every block."""
    by_layer = (block.cross_attn for block in blocks)
    pairs = ((ca.norm_k(ca.k(text)), ca.v(text)) for ca in by_layer)
    return tuple((k.unflatten(-1, (heads, -1)), v.unflatten(-1, (heads, -1))) for k, v in pairs)


def _project_picture(tree: Any, picture: Tensor) -> tuple[KeysValues, ...]:
    """Keys and values (b, 1, s, n, d) of a picture's features, for every layer."""
    features, heads = tree.img_emb(picture).unsqueeze(1), tree.num_heads
    return tuple(
        (
            ca.norm_k_img(ca.k_img(features)).unflatten(-1, (heads, -1)),
            ca.v_img(features).unflatten(-1, (heads, -1)),
        )
        for ca in (block.cross_attn for block in tree.blocks)
    )


def predict(
    tree: Any,
    x: Tensor,
    t: Tensor,
    text: TextKV,
    attention: SelfAttention,
    options: PassOptions = PLAIN,
) -> Prediction:
    """The flow velocity of latents x (b, f, c, h, w) at timesteps t (b, f) in 0..1000."""
    fetch, to_prompt, hooks = options.cast or nn.Identity(), options.to_prompt, options.hooks
    rows, columns = (side // PATCH for side in x.shape[-2:])
    tokens = options.patches(tree)(x.transpose(1, 2).float()).to(x.dtype)
    tokens = rearrange(tokens, "b c f h w -> b f (h w) c").contiguous()  # every layer adds to it
    tokens, blocks = options.blocks.enter(through(hooks.patches, tokens), tree.blocks)
    e = through(hooks.time, options.times(tree, t, x))  # (b, f, c)
    e0 = tree.time_projection(e).float().unflatten(-1, (6, 1, -1)).movedim(2, 0).contiguous()
    by_layer, beside, linear = list[KeysValues](), list[KeysValues](), options.layers.linear
    for index, block in enumerate(blocks):
        if index in options.skipped:
            tokens = through_layer(hooks.after_block, index, tokens)
            continue
        m = fetch(block.modulation).float().view(6, 1, 1, 1, -1) + e0  # (6, b, f, 1, c)
        by = partial(to_prompt, index) if to_prompt else attend
        changes = tuple(partial(hook, index) for hook in hooks.in_prompt)
        text_ways = TextWays(linear, by, changes)
        to_text = partial(attend_to_text, block.cross_attn, text.of(index), text.runs, text_ways)
        ends = not options.whole and index + 1 == len(tree.blocks)
        attend_by = None if ends else partial(attention, index)
        ways = BlockWays(index, attend_by, to_text, hooks, options.arithmetic, options.layers)
        tokens, keys_values = run_block(block, tokens, m.unbind(0), tree.num_heads, ways)
        if options.keep:
            by_layer.append(keys_values[0])
            beside += keys_values[1:]
        if ends:
            return Prediction(x[:0], (*by_layer, *beside))
        del keys_values  # or the next layer would run beside them
    tokens = options.blocks.leave(tokens)
    m = (fetch(tree.head.modulation).float().unsqueeze(1) + e.float().unsqueeze(2)).unsqueeze(3)
    out = tree.head.head(modulate(tree.head.norm(tokens), *m.unbind(2)))  # (b, f, 1, c) each
    velocity = rearrange(
        out, "b f (h w) (p q c) -> b f c (h p) (w q)", h=rows, w=columns, p=PATCH, q=PATCH
    )
    return Prediction(velocity, (*by_layer, *beside))
