"""Which blocks of a transformer the tokens of a pass go through."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class Blocks(Protocol):
    """Chooses the blocks of a pass, and is told what comes out behind them."""

    def enter(self, tokens: Tensor, blocks: Any) -> tuple[Tensor, Any]:
        """The tokens (b, f, s, c) and those of the `blocks` that they go through."""

    def leave(self, tokens: Tensor) -> Tensor:
        """Take note of the tokens behind the blocks, and return what the head reads."""


class AllBlocks:
    """Every pass goes through all blocks."""

    def enter(self, tokens: Tensor, blocks: Any) -> tuple[Tensor, Any]:
        """Return tokens and blocks as they are."""
        return tokens, blocks

    def leave(self, tokens: Tensor) -> Tensor:
        """Return the tokens as they are."""
        return tokens


ALL_BLOCKS = AllBlocks()
