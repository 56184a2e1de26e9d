"""AnnCA of FAST-AR (arXiv 2602.01801): attention to the prompt tokens that matter.

A prompt is padded to the family's length with identical tokens, which take part in attention. They
become one token of their mass, which is exact. Of the other tokens, those that share a bucket with
a query of the pass stay, at least a set number.
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
    """Keys and values (b, n, l, d) of prompt tokens, with `bias` (b, n, l), the log of their mass.

    A `bias` of None means that every token has mass 1. `last` (b,) is each row's last token, which
    is its padding if it has any. Tokens behind it, present if another row has more words, have no
    mass. `source` is the key tensor that the prompt was built from.
    """

    keys: Tensor
    values: Tensor
    bias: Tensor | None
    last: Tensor
    source: Tensor

    def repeat_rows(self, count: int) -> Prompt:
        """The prompt with each row `count` times."""
        if count == 1:
            return self
        keys, values = (x.repeat_interleave(count, 0) for x in (self.keys, self.values))
        bias = None if self.bias is None else self.bias.repeat_interleave(count, 0)
        last = self.last.repeat_interleave(count)
        return replace(self, keys=keys, values=values, bias=bias, last=last)

    @property
    def tokens(self) -> Tensor | float:
        """Tokens with a mass, averaged over rows and heads."""
        if self.bias is None:
            return float(self.keys.shape[2])
        return (self.bias > -torch.inf).sum(-1).float().mean()


class SparsePrompt:
    """Cross-attention to prompts with merged padding, pruned if `settings` say so.

    If `settings.from_tokens` is None, prompts of every length are merged. The merged prompts in
    force are cached for each layer.
    """

    def __init__(self, settings: SparseCross) -> None:
        self.settings = settings
        self.kept_tokens = 0.0
        self.all_tokens = 0.0
        self._merged_tokens: Tensor | float = 0.0  # on the device of the prompts
        self._pruned_tokens: Tensor | float = 0.0
        self._prompts: dict[int, list[Prompt]] = {}
        self._buckets: RandomProjection | None = None

    @property
    def share(self) -> float | None:
        """The share of prompt tokens that attention was computed over, None before the first pass.

        Every row counts as many tokens as the row that needs most.
        """
        return self.kept_tokens / self.all_tokens if self.all_tokens else None

    @property
    def pruned_share(self) -> float | None:
        """The share of tokens pruned after merging, averaged over heads; None before a pass."""
        merged = float(self._merged_tokens)
        return float(self._pruned_tokens) / merged if merged else None

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend q (b, s, n, d) to k, v (b, l, n, d) of one prompt per row, in one layer."""
        if k.shape[1] < (self.settings.from_tokens or 0):
            self._count(k.shape[1], k.shape[1])
            return attend(q, k, v)
        return self.attend(q, self._prompt(layer, k, v))

    def attend(self, q: Tensor, prompt: Prompt) -> Tensor:
        """Attend q (b, s, n, d) to one prompt per row, pruned by the row's own queries."""
        queries = q.transpose(1, 2)  # (b, n, s, d)
        keys, values, bias = prompt.keys, prompt.values, prompt.bias
        if self.settings.prune and keys.shape[2] > self.settings.min_tokens:
            keys, values, bias = self._prune(queries, prompt)
        self._count(keys.shape[2], prompt.source.shape[1])
        if not q.is_meta:
            self._merged_tokens = self._merged_tokens + prompt.tokens
        return attend_biased(queries, keys, values, bias).transpose(1, 2)

    def forget(self) -> None:
        """Drop the cached prompts: other prompts are in force."""
        self._prompts.clear()

    def _count(self, kept_tokens: int, tokens: int) -> None:
        self.kept_tokens += kept_tokens
        self.all_tokens += tokens

    def _prompt(self, layer: int, k: Tensor, v: Tensor) -> Prompt:
        """The prompt of these keys, from the cache if it was built before."""
        known = self._prompts.setdefault(layer, [])
        for prompt in known:
            if _same_memory(prompt.source, k):
                return prompt
        known.append(merge_padding(k, v))
        return known[-1]

    def _prune(self, queries: Tensor, prompt: Prompt) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys, values and biases of the tokens that share a bucket with a query of their head.

        The padding always stays.
        """
        if self._buckets is None:
            heads, d = queries.shape[1], queries.shape[3]
            self._buckets = RandomProjection(heads, d, self.settings.bits)
        votes = count_shared_buckets(self._buckets, queries, prompt.keys)
        if prompt.bias is not None:
            votes = votes.masked_fill(prompt.bias == -torch.inf, -1)
        last = prompt.last.view(-1, 1, 1).expand(-1, votes.shape[1], -1)
        votes = votes.scatter(2, last, votes.amax(-1, keepdim=True) + 1)  # it always stays
        most = votes.shape[2] if votes.is_meta else int((votes > 0).sum(-1).amax())
        count = min(votes.shape[2], max(most, self.settings.min_tokens))
        top = votes.topk(count, dim=-1)
        none = torch.zeros_like(top.values)
        bias = none if prompt.bias is None else prompt.bias.gather(2, top.indices)
        spare = torch.arange(count, device=votes.device) >= self.settings.min_tokens
        unread = (top.values <= 0) & spare
        if not votes.is_meta:
            attended = (~unread & (bias > -torch.inf)).sum(-1).float().mean()
            self._pruned_tokens = self._pruned_tokens + prompt.tokens - attended
        bias = bias.masked_fill(unread, -torch.inf)
        index = top.indices.unsqueeze(-1).expand(-1, -1, -1, queries.shape[3])
        return prompt.keys.gather(2, index), prompt.values.gather(2, index), bias


def attend_prompt(q: Tensor, prompt: Prompt) -> Tensor:
    """Attend q (b, s, n, d) to all tokens of a prompt."""
    out = attend_biased(q.transpose(1, 2), prompt.keys, prompt.values, prompt.bias)
    return out.transpose(1, 2)


def merge_padding(k: Tensor, v: Tensor) -> Prompt:
    """Merge the run of identical tokens at the end of k, v (b, l, n, d) into one token of its mass.

    All rows have as many tokens as the longest one needs. In shorter rows the tokens behind the
    padding have no mass, so each row's padding is one token with all of its mass.
    """
    alike = _equals_last(k) & _equals_last(v)  # (b, l)
    run = alike.flip(1).long().cumprod(1).sum(1)  # (b,) tokens of each row's padding
    length = k.shape[1]
    # A rehearsal has no numbers; the worst case is a prompt without padding.
    fewest, most = (1, length) if k.is_meta else (int(run.min()), int(run.max()))
    merged_length, last = length - fewest + 1, length - run
    keys, values = (x[:, :merged_length].transpose(1, 2).contiguous() for x in (k, v))
    if most == 1:
        return Prompt(keys, values, None, last, k)
    behind = torch.arange(merged_length, device=k.device) - last.unsqueeze(1)  # (b, l)
    bias = torch.zeros(behind.shape, device=k.device).masked_fill(behind > 0, -torch.inf)
    bias = torch.where(behind == 0, run.float().log().unsqueeze(1), bias)
    return Prompt(keys, values, bias.unsqueeze(1).expand(-1, k.shape[2], -1), last, k)


def _equals_last(x: Tensor) -> Tensor:
    """Which tokens (b, l) of x (b, l, n, d) equal the last one in every head, except for rounding.

    A matrix product may round equal rows differently. Each head has its own softmax, so the
    tolerance applies to each head: a difference that is small overall may be large in one head.
    """
    off = (x - x[:, -1:]).float().norm(dim=-1)
    size = x[:, -1:].float().norm(dim=-1)
    alike: Tensor = (off <= 2 * torch.finfo(x.dtype).eps * size).all(-1)
    return alike


def _same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether two views are of the same memory, which cannot be reused while one view is alive.

    Tensors without content have no address, so the storages are compared.
    """
    ours, theirs = ((x.storage_offset(), x.shape, x.stride()) for x in (a, b))
    return ours == theirs and a.untyped_storage()._cdata == b.untyped_storage()._cdata


def count_shared_buckets(buckets: RandomProjection, queries: Tensor, keys: Tensor) -> Tensor:
    """Count the queries (b, n, s, d) in each key's (b, n, l, d) bucket: (b, n, l) float32.

    Queries are counted by bucket, so no table of all pairs is ever built.
    """
    query_buckets, key_buckets = (buckets.assign(0, x).long() for x in (queries, keys))
    counts = torch.zeros(*query_buckets.shape[:2], buckets.count, device=keys.device)
    counts.scatter_add_(2, query_buckets, torch.ones_like(query_buckets, dtype=counts.dtype))
    shared: Tensor = counts.gather(2, key_buckets)
    return shared
