"""Where a module beside the transformer may change a pass: hooks, composed before the loop.

A family with a module of its own, such as a camera's, gives `Hooks` for the frames of a pass. The
forward calls them in this order, and hooks of one place in the order of their tuple:

1. `patches`: on the tokens, once, after the patch embedding.
2. `time`: on the time embedding, once, before its projection; so it modulates every block. The
   embedding serves other passes too, so a hook returns another tensor.
3. In every block `places`: on queries and on keys, un-rotated, before anything attends or keeps
   them.
4. In every block `in_attention`: what it returns is added to the output of self-attention.
5. In every block `after_attention`: on the tokens, after self-attention was added to them and
   before attention to the prompt.
6. In every block `in_prompt`: on what attention to the prompt gives, before that to a picture is
   added and before the projection.
7. In every block `after_prompt`: on the tokens, after attention to the prompt was added to them
   and before the feed-forward. These hooks may also return keys and values of their own, which a
   commit keeps.
8. In every block `after_block`: on the tokens, after the feed-forward.

Patches of the host are older than hooks. LoRAs and quantised weights act within the modules that
both call. No hook: the bits of a plain pass. A commit calls the same hooks as a step, unless the
family's module gives others for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

TokenHook = Callable[[Tensor], Tensor]
"""Changes tokens (b, f, s, c), or the time embedding (b, f, c)."""

LayerHook = Callable[[int, Tensor], Tensor]
"""(layer, tokens (b, f, s, c)) -> tokens."""

KeepingHook = Callable[[int, Tensor], tuple[Tensor, tuple[Tensor, Tensor] | None]]
"""(layer, tokens (b, f, s, c)) -> tokens, and keys and values (b, f s, n, d) or None."""

PlaceHook = Callable[[Tensor], Tensor]
"""Changes queries or keys (b, f s, n, d), both alike."""

AttentionHook = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q, k, v), all (b, f s, n, d) and un-rotated -> an addition (b, f s, c)."""

PromptHook = Callable[[int, Tensor, Tensor], Tensor]
"""(layer, q, what attention to the prompt gives), both (b, f, s, n, d) -> what it is to give."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What modules change in one pass; the default changes nothing."""

    patches: tuple[TokenHook, ...] = ()
    time: tuple[TokenHook, ...] = ()
    places: tuple[PlaceHook, ...] = ()
    in_attention: tuple[AttentionHook, ...] = ()
    after_attention: tuple[LayerHook, ...] = ()
    in_prompt: tuple[PromptHook, ...] = ()
    after_prompt: tuple[KeepingHook, ...] = ()
    after_block: tuple[LayerHook, ...] = ()

    def then(self, later: Hooks) -> Hooks:
        """These hooks, and at each place the `later` ones after them."""
        return Hooks(
            self.patches + later.patches,
            self.time + later.time,
            self.places + later.places,
            self.in_attention + later.in_attention,
            self.after_attention + later.after_attention,
            self.in_prompt + later.in_prompt,
            self.after_prompt + later.after_prompt,
            self.after_block + later.after_block,
        )


NO_HOOKS = Hooks()


def through(hooks: tuple[TokenHook | PlaceHook, ...], x: Tensor) -> Tensor:
    """Pass x through hooks, one after another."""
    for hook in hooks:
        x = hook(x)
    return x


def through_layer(hooks: tuple[LayerHook, ...], layer: int, x: Tensor) -> Tensor:
    """Pass the tokens of a layer through hooks, one after another."""
    for hook in hooks:
        x = hook(layer, x)
    return x


def through_keeping(
    hooks: tuple[KeepingHook, ...], layer: int, x: Tensor
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Pass the tokens of a layer through hooks; also the keys and values that they return."""
    pairs: list[tuple[Tensor, Tensor]] = []
    for hook in hooks:
        x, keys_values = hook(layer, x)
        pairs += [] if keys_values is None else [keys_values]
    return x, pairs
