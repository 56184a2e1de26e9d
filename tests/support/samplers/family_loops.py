"""The few-step families' own sampling loops, written out from their repositories: no cache object,
no schedule, no solver of ours, and a forward of its own.

Sources: guandeh17/Self-Forcing `pipeline/causal_inference.py` and `utils/scheduler.py`;
Wan-Video/Wan2.1 `wan/modules/model.py` for the forward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from longtake.tests.support.attention.bank_loop import Banks

Weights = Mapping[str, Tensor]
Layers = list[tuple[Tensor, Tensor]]
"""Keys that are not rotated and values of every layer, each (s, n, d)."""

OfLayer = tuple[list[tuple[Tensor, Tensor]], Sequence[int], int]
"""Keys and values of the frames that a layer sees, their positions, and that of the block's first.
"""

Seen = list[Layers] | Callable[[int], OfLayer]
"""Frames in a row, or what each layer sees."""

Noise = Callable[[int, int], Tensor]
"""(latent frame, 0 at the start or the number of the step that follows) -> (c, h, w)."""


@dataclass(frozen=True)
class Published:
    """A family as its authors publish it: `attends` counts latent frames, with sink and block."""

    steps: tuple[float, ...]
    block: int = 3
    shift: float = 5.0
    attends: int = 21
    sink: int = 0
    warp: bool = True
    channels: int = 16
    bank: int = 0  # latent frames beside the window, in every layer its own (MemFlow)


@dataclass
class _Past:
    """Finished latent frames, oldest first: (its number, keys and values of every layer)."""

    frames: list[tuple[int, Layers]] = field(default_factory=list)

    def window(self, family: Published) -> list[tuple[int, Layers]]:
        """The sink and the newest ones that fit beside a block."""
        room = family.attends - family.block - family.sink
        sink = [one for one in self.frames if one[0] < family.sink]
        rest = [one for one in self.frames if one[0] >= family.sink]
        return sink + rest[max(0, len(rest) - room) :]

    def seen(self, family: Published) -> list[Layers]:
        """The same without their numbers."""
        return [layers for _, layers in self.window(family)]


def published_loop(  # noqa: PLR0913
    w: Weights, heads: int, family: Published, text: Tensor, length: int, noise: Noise,
    switch: tuple[int, Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """Latents (f, c, h, w): block after block, re-noised after each step, then once more at 0. At a
    `switch` to another prompt, what is in the window is re-cached.
    """
    sigmas = _table(family)
    rows, columns = noise(0, 0).shape[1:]
    past, made = _Past(), []
    banks = _banks(w, heads, family, text, (rows // 2, columns // 2))
    for start in range(0, length, family.block):
        frames = range(start, start + family.block)
        if switch is not None and start == switch[0]:
            text = switch[1]
            banks.switched(_asked(w, heads, text))
            clean = torch.cat(made)
            past = _re_cached(w, heads, past.window(family), clean, text, banks, family.block)
        else:
            banks.before_block()
        window = past.window(family)
        seen = _seen_beside(banks, window, frames)
        told = [float(_warped(sigmas, t)) if family.warp else t for t in family.steps]
        x = torch.stack([noise(frame, 0) for frame in frames])
        for i, t in enumerate(told):
            v, _ = forward(w, heads, x, [t] * len(x), text, seen)
            clean = (x.double() - _sigma(sigmas, t) * v.double()).float()
            if i + 1 < len(told):
                after = _sigma(sigmas, told[i + 1])
                fresh = torch.stack([noise(frame, i + 1) for frame in frames])
                x = (1 - after) * clean + after * fresh
        _, kept = forward(w, heads, clean, [0.0] * len(x), text, seen)
        past.frames += by_frame(kept, start, len(x))
        made.append(clean)
        if family.bank:
            banks.record(start // family.block, by_frame(kept, start, len(x))[0])
    return torch.cat(made)


def _banks(w: Weights, heads: int, family: Published, text: Tensor, grid: tuple[int, int]) -> Banks:
    """MemFlow's, before the first block."""
    turn = lambda k, frame: rotated(k, [frame], *grid)  # noqa: E731
    return Banks(family.bank, _asked(w, heads, text), turn)


def _seen_beside(
    banks: Banks, past: list[tuple[int, Layers]], frames: Sequence[int]
) -> Seen:  # fmt: skip
    """MemFlow's frames are at their own places, others in a row."""
    if banks.size:
        return banks.beside(past, frames)
    return [layers for _, layers in past]


def _asked(w: Weights, heads: int, text: Tensor) -> list[Tensor]:
    """A prompt's keys (l, n, d) in every layer."""
    context, layers = embedded(w, text), sum(key.endswith("cross_attn.k.weight") for key in w)
    return [prompt_keys(w, heads, context, layer) for layer in range(layers)]


def _re_cached(  # noqa: PLR0913
    w: Weights, heads: int, past: list[tuple[int, Layers]], clean: Tensor, text: Tensor,
    banks: Banks, block: int,
) -> _Past:  # fmt: skip
    """What is in the window once more, under another prompt. MemFlow passes it at once, all seeing
    all, and spares the sink; here block after block, each behind the bank and those before it.
    """
    again: list[tuple[int, Layers]] = []
    numbers = [number for number, _ in past]
    for own in ([n for n in numbers if n // block == i] for i in range(len(clean) // block)):
        if own:
            seen = _seen_beside(banks, again, own)
            _, kept = forward(w, heads, clean[own], [0.0] * len(own), text, seen)
            again = [*again, *by_frame(kept, own[0], len(own))]
    return _Past(again)


def by_frame(kept: Layers, first: int, count: int) -> list[tuple[int, Layers]]:
    """Keys and values of a pass over `count` latent frames from `first` on, frame by frame."""
    tokens = len(kept[0][0]) // count
    own = [slice(j * tokens, (j + 1) * tokens) for j in range(count)]
    return [(first + j, [(k[s], v[s]) for k, v in kept]) for j, s in enumerate(own)]


def _table(family: Published) -> Tensor:
    """The 1000 shifted levels of `FlowMatchScheduler`; 0 is not among them."""
    sigmas = torch.linspace(1, 0, 1001, dtype=torch.float64)[:-1]
    return family.shift * sigmas / (1 + (family.shift - 1) * sigmas)


def _warped(sigmas: Tensor, t: float) -> Tensor:
    """`timesteps[1000 - t]` of the shifted table, which ends with a 0."""
    return torch.cat([1000 * sigmas, torch.zeros(1, dtype=torch.float64)])[1000 - int(t)]


def _sigma(sigmas: Tensor, t: float) -> float:
    """The level of the table's nearest timestep."""
    return float(sigmas[(1000 * sigmas - t).abs().argmin()])


def forward(
    w: Weights, heads: int, x: Tensor, t: Sequence[float], text: Tensor, seen: Seen
) -> tuple[Tensor, Layers]:
    """Velocity of latents x (f, c, h, w) at timesteps t (f) behind the frames that are `seen`,
    which are at the positions before it; and the block's own keys and values.
    """
    dim = w["head.modulation"].shape[-1]
    size = (len(x), x.shape[2] // 2, x.shape[3] // 2)
    video = x.transpose(0, 1)[None]
    h = F.conv3d(video, w["patch_embedding.weight"], w["patch_embedding.bias"], stride=(1, 2, 2))
    h = h[0].flatten(1).T  # (s, c), frames, rows and columns in this order
    told = torch.tensor(t, dtype=torch.float64).repeat_interleave(size[1] * size[2])
    angles = torch.outer(told, 10_000.0 ** (-torch.arange(128, dtype=torch.float64) / 128))
    e = torch.cat([angles.cos(), angles.sin()], 1).float()  # (s, 256), as long as the tokens
    e = _linear(w, "time_embedding.2", F.silu(_linear(w, "time_embedding.0", e)))
    e0 = _linear(w, "time_projection.1", F.silu(e)).view(-1, 6, dim)
    context = embedded(w, text)
    kept: Layers = []
    for n in range(1 + max(int(key.split(".")[1]) for key in w if key.startswith("blocks."))):
        b, (own, places, first) = f"blocks.{n}.", _of_layer(seen, n)
        m = (w[f"{b}modulation"] + e0).unbind(1)
        y = _norm(h) * (1 + m[1]) + m[0]
        q, k = (_rms(_linear(w, f"{b}self_attn.{one}", y), w[f"{b}self_attn.norm_{one}.weight"])
                .unflatten(-1, (heads, -1)) for one in "qk")  # fmt: skip
        v = _linear(w, f"{b}self_attn.v", y).unflatten(-1, (heads, -1))
        kept.append((k, v))
        keys, values = (torch.cat(parts) for parts in zip(*own, (k, v), strict=True))
        now = range(first, first + size[0])
        y = _attend(rotated(q, now, *size[1:]), rotated(keys, [*places, *now], *size[1:]), values)
        h = h + _linear(w, f"{b}self_attn.o", y) * m[2]
        y = _norm(h) * w[f"{b}norm3.weight"] + w[f"{b}norm3.bias"]
        q = _rms(_linear(w, f"{b}cross_attn.q", y), w[f"{b}cross_attn.norm_q.weight"])
        k = prompt_keys(w, heads, context, n)
        v = _linear(w, f"{b}cross_attn.v", context)
        y = _attend(q.unflatten(-1, (heads, -1)), k, v.unflatten(-1, (heads, -1)))
        h = h + _linear(w, f"{b}cross_attn.o", y)
        y = _linear(w, f"{b}ffn.0", _norm(h) * (1 + m[4]) + m[3])
        h = h + _linear(w, f"{b}ffn.2", F.gelu(y, approximate="tanh")) * m[5]
    m = (w["head.modulation"] + e[:, None]).unbind(1)
    out = _linear(w, "head.head", _norm(h) * (1 + m[1]) + m[0])
    out = out.view(*size, 2, 2, -1).permute(0, 5, 1, 3, 2, 4)  # (f, c, h, p, w, q)
    return out.reshape(len(x), -1, *x.shape[2:]), kept


def embedded(w: Weights, text: Tensor) -> Tensor:
    """The context (l, c) that cross-attention sees."""
    context = F.gelu(_linear(w, "text_embedding.0", text), approximate="tanh")
    return _linear(w, "text_embedding.2", context)


def prompt_keys(w: Weights, heads: int, context: Tensor, layer: int) -> Tensor:
    """Keys (l, n, d) of a context in one layer's cross-attention."""
    name = f"blocks.{layer}.cross_attn."
    keys = _rms(_linear(w, f"{name}k", context), w[f"{name}norm_k.weight"])
    return keys.unflatten(-1, (heads, -1))


def _of_layer(seen: Seen, layer: int) -> OfLayer:
    if isinstance(seen, list):
        return [layers[layer] for layers in seen], range(len(seen)), len(seen)
    return seen(layer)


def rotated(x: Tensor, frames: Sequence[int], rows: int, columns: int) -> Tensor:
    """x (s, n, d) by its place: d is split among frame, row and column, neighbours are a pair."""
    d = x.shape[-1]
    parts = (d - 4 * (d // 6), 2 * (d // 6), 2 * (d // 6))
    places = torch.cartesian_prod(
        torch.tensor([*frames]), torch.arange(rows), torch.arange(columns)
    ).double()
    angles = torch.cat([
        torch.outer(places[:, i], 10_000.0 ** (-torch.arange(0, width, 2).double() / width))
        for i, width in enumerate(parts)
    ], 1)[:, None]  # fmt: skip
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(turned).flatten(-2).float()


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.einsum("qnd,knd->nqk", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("nqk,knd->qnd", scores.softmax(-1), v).flatten(1)


def _linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def _rms(x: Tensor, weight: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight
