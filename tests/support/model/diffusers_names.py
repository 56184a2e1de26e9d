"""Tensor names of a Wan file in diffusers' words: the format's table, not our code."""

from __future__ import annotations

NAMES = {  # official to diffusers; norm2 and norm3 change places
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "delta_embedding.0": "condition_embedder.delta_embedder.linear_1",
    "delta_embedding.2": "condition_embedder.delta_embedder.linear_2",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    ".self_attn.o": ".attn1.to_out.0",
    ".self_attn.norm_": ".attn1.norm_",
    ".self_attn.": ".attn1.to_",
    ".cross_attn.o": ".attn2.to_out.0",
    ".cross_attn.norm_": ".attn2.norm_",
    ".cross_attn.": ".attn2.to_",
    ".ffn.0": ".ffn.net.0.proj",
    ".ffn.2": ".ffn.net.2",
    ".norm3": ".norm2",
    "head.modulation": "scale_shift_table",
    "head.head": "proj_out",
    ".modulation": ".scale_shift_table",
}


def to_diffusers(name: str) -> str:
    """An official tensor name in diffusers' words."""
    ours = next((official for official in NAMES if official in name), None)
    return name if ours is None else name.replace(ours, NAMES[ours])
