"""AnnCA of FAST-AR (arXiv 2602.01801): attention to the prompt tokens that matter.

A prompt is padded to the family's length with tokens that are all alike; they take part in
attention, so they become one token of their mass, exactly. Of the others, those that share a bucket
with some query of the pass stay, at least so many.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..ann.lsh import RandomProjection
from ..dense import attend
from ..kernels.biased import attend_biased
from .settings import SparseCross


@dataclass(frozen=True, slots=True)
class Prompt:
    """Keys and values (b, n, l, d) of prompt tokens, and the log of each one's mass (b, n, l), None
    where each is one token.

    `last` (b,) is each row's last token, its padding if it has any; what comes after it, where
    another row has more words, has no mass. `source` is the tensor that they were made from.
    """

    keys: Tensor
    values: Tensor
    bias: Tensor | None
    last: Tensor
    source: Tensor

    def repeated(self, count: int) -> Prompt:
        """Each row `count` times."""
        if count == 1:
            return self
        keys, values = (x.repeat_interleave(count, 0) for x in (self.keys, self.values))
        bias = None if self.bias is None else self.bias.repeat_interleave(count, 0)
        last = self.last.repeat_interleave(count)
        return replace(self, keys=keys, values=values, bias=bias, last=last)

    @property
    def tokens(self) -> Tensor | float:
        """How many have a mass, on average over rows and heads."""
        if self.bias is None:
            return float(self.keys.shape[2])
        return (self.bias > -torch.inf).sum(-1).float().mean()


class SparsePrompt:
    """Cross-attention over prompts whose padding is merged, and that are pruned if asked; where
    `settings` leave it to measurements from which length on, over all.

    Keeps what was made of the prompts in force, layer by layer.
    """

    def __init__(self, settings: SparseCross) -> None:
        self.settings = settings
        self.kept_tokens = 0.0
        self.all_tokens = 0.0
        self._merged_tokens: Tensor | float = 0.0  # means over heads, where those are
        self._pruned_tokens: Tensor | float = 0.0
        self._prompts: dict[int, list[Prompt]] = {}
        self._buckets: RandomProjection | None = None

    @property
    def share(self) -> float | None:
        """The share of prompt tokens that attention was computed over: in every row as many as the
        one that needs most; None before the first pass.
        """
        return self.kept_tokens / self.all_tokens if self.all_tokens else None

    @property
    def left_out(self) -> float | None:
        """The share of words that were pruned, of the tokens that merging leaves, on average over
        heads; None before the first pass.
        """
        merged = float(self._merged_tokens)
        return float(self._pruned_tokens) / merged if merged else None

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend q (b, s, n, d) to k, v (b, l, n, d) of one prompt a row, in one layer."""
        if k.shape[1] < (self.settings.from_tokens or 0):
            self._count(k.shape[1], k.shape[1])
            return attend(q, k, v)
        return self.attend(q, self._of(layer, k, v))

    def attend(self, q: Tensor, prompt: Prompt) -> Tensor:
        """Attend q (b, s, n, d) to one prompt a row, of which each row keeps what its queries are
        near.
        """
        queries = q.transpose(1, 2)  # (b, n, s, d)
        keys, values, bias = prompt.keys, prompt.values, prompt.bias
        if self.settings.prune and keys.shape[2] > self.settings.min_tokens:
            keys, values, bias = self._pruned(queries, prompt)
        self._count(keys.shape[2], prompt.source.shape[1])
        if not q.is_meta:
            self._merged_tokens = self._merged_tokens + prompt.tokens
        return attend_biased(queries, keys, values, bias).transpose(1, 2)

    def forget(self) -> None:
        """Other prompts are in force."""
        self._prompts.clear()

    def _count(self, kept: int, tokens: int) -> None:
        self.kept_tokens += kept
        self.all_tokens += tokens

    def _of(self, layer: int, k: Tensor, v: Tensor) -> Prompt:
        """What was made of these keys before, or is made now."""
        known = self._prompts.setdefault(layer, [])
        for prompt in known:
            if _same_memory(prompt.source, k):
                return prompt
        known.append(merged_padding(k, v))
        return known[-1]

    def _pruned(self, queries: Tensor, prompt: Prompt) -> tuple[Tensor, Tensor, Tensor | None]:
        """The tokens that share a bucket with some query of their head; the padding stays."""
        if self._buckets is None:
            heads, d = queries.shape[1], queries.shape[3]
            self._buckets = RandomProjection(heads, d, self.settings.bits)
        votes = shared_buckets(self._buckets, queries, prompt.keys)
        if prompt.bias is not None:
            votes = votes.masked_fill(prompt.bias == -torch.inf, -1)
        select_heads = prompt.last.view(-1, 1, 1).expand(-1, votes.shape[1], -1)
        votes = votes.scatter(2, select_heads, votes.amax(-1, keepdim=True) + 1)  # it always stays
        most = votes.shape[2] if votes.is_meta else int((votes > 0).sum(-1).amax())
        count = min(votes.shape[2], max(most, self.settings.min_tokens))
        kept = votes.topk(count, dim=-1)
        none = torch.zeros_like(kept.values)
        bias = none if prompt.bias is None else prompt.bias.gather(2, kept.indices)
        spare = torch.arange(count, device=votes.device) >= self.settings.min_tokens
        unread = (kept.values <= 0) & spare
        if not votes.is_meta:
            attended = (~unread & (bias > -torch.inf)).sum(-1).float().mean()
            self._pruned_tokens = self._pruned_tokens + prompt.tokens - attended
        bias = bias.masked_fill(unread, -torch.inf)
        index = kept.indices.unsqueeze(-1).expand(-1, -1, -1, queries.shape[3])
        return prompt.keys.gather(2, index), prompt.values.gather(2, index), bias


def merged_attention(q: Tensor, prompt: Prompt) -> Tensor:
    """Attend q (b, s, n, d) to a prompt."""
    out = attend_biased(q.transpose(1, 2), prompt.keys, prompt.values, prompt.bias)
    return out.transpose(1, 2)


def merged_padding(k: Tensor, v: Tensor) -> Prompt:
    """Tokens of k, v (b, l, n, d) with the run of like ones at their end as one of its mass.

    Rows of several prompts have as many tokens as the longest needs; those behind another's padding
    have no mass, so that each row's padding is one token of all of its mass.
    """
    alike = _like_the_last(k) & _like_the_last(v)  # (b, l)
    run = alike.flip(1).long().cumprod(1).sum(1)  # (b,) tokens of each row's padding
    length = k.shape[1]
    # A rehearsal has no numbers: at the most nothing is padding.
    fewest, most = (1, length) if k.is_meta else (int(run.min()), int(run.max()))
    kept, last = length - fewest + 1, length - run
    keys, values = (x[:, :kept].transpose(1, 2).contiguous() for x in (k, v))
    if most == 1:
        return Prompt(keys, values, None, last, k)
    behind = torch.arange(kept, device=k.device) - last.unsqueeze(1)  # (b, l)
    bias = torch.zeros(behind.shape, device=k.device).masked_fill(behind > 0, -torch.inf)
    bias = torch.where(behind == 0, run.float().log().unsqueeze(1), bias)
    return Prompt(keys, values, bias.unsqueeze(1).expand(-1, k.shape[2], -1), last, k)


def _like_the_last(x: Tensor) -> Tensor:
    """Which tokens of x (b, l, n, d) are the last one, in every head, but for rounding: (b, l).

    A product of matrices may round equal rows differently. Heads are softmaxes of their own, so
    what is small in all may be much in one.
    """
    off = (x - x[:, -1:]).float().norm(dim=-1)
    size = x[:, -1:].float().norm(dim=-1)
    alike: Tensor = (off <= 2 * torch.finfo(x.dtype).eps * size).all(-1)
    return alike


def _same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether two views show the same; nothing else can lie there while one is kept."""
    return (a.data_ptr(), a.shape, a.stride()) == (b.data_ptr(), b.shape, b.stride())


def shared_buckets(buckets: RandomProjection, queries: Tensor, keys: Tensor) -> Tensor:
    """How many queries (b, n, s, d) are in each key's (b, n, l, d) bucket: (b, n, l) float32.

    Counted by bucket, so that queries and keys never meet in a table of pairs.
    """
    ours, theirs = (buckets.of(0, x).long() for x in (queries, keys))
    counts = torch.zeros(*ours.shape[:2], buckets.count, device=ours.device)
    counts.scatter_add_(2, ours, torch.ones_like(ours, dtype=counts.dtype))
    shared: Tensor = counts.gather(2, theirs)
    return shared
