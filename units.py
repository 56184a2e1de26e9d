"""Quantities as people read them, wherever the nodes and the command line show them."""

from __future__ import annotations

GIB, MIB = 2**30, 2**20


def byte_size(count: int) -> str:
    """A number of bytes, such as `1.5 GB`, `48 MB` or `0.3 MB`, in powers of 1,024."""
    if count >= GIB // 2:
        return f"{count / GIB:.1f} GB"
    return f"{count / MIB:.0f} MB" if count >= 10 * MIB else f"{count / MIB:.1f} MB"


def count_of(count: int, thing: str) -> str:
    """A number of things in words, such as `1 chunk` or `2 chunks`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
