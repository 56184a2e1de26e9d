"""The shot of the examples for community files: its model, prompts, size and length."""

from __future__ import annotations

from .example_nodes import Api, node

Link = list[str | int]

SUBJECT = "a woman in a red raincoat walks through a neon-lit street in the rain, cinematic"
LATER = "a woman in a red raincoat walks through a snowy forest at dawn, cinematic"
WIDTH, HEIGHT, SECONDS = 832, 480, 10.0
PROMPTS = f"0: {SUBJECT}\n5: {LATER}"


def text_nodes(text: str = PROMPTS, model: str = "self_forcing_dmd.pt") -> Api:
    """Return nodes 1 to 3: a text-to-video model, its text encoder and the prompts."""
    return {
        "1": node("LongtakeLoadModel", "Load Causal Video Model", model_name=model, family="auto"),
        "2": node("CLIPLoader", "Load CLIP", type="wan", device="default",
                  clip_name="umt5_xxl_fp8_e4m3fn_scaled.safetensors"),
        "3": node("LongtakePromptTimeline", "Prompt Timeline", clip=["2", 0], negative="",
                  text=text),
    }  # fmt: skip


def output_nodes(first: int, prefix: str, rollout: Link, vae: Link, **sound: Link) -> Api:
    """Return three nodes, numbered from `first`: decode, watch, and save with `sound` if any."""
    decoder, player, file = (str(first + i) for i in range(3))
    return {
        decoder: node("LongtakeVAEDecode", "VAE Decode (Stream)", rollout=rollout, vae=vae),
        player: node("LongtakePreview", "Streaming Preview", frames=[decoder, 0]),
        file: node("LongtakeSaveVideo", "Save Video (Stream)", frames=[decoder, 0], **sound,
                   filename_prefix=f"longtake/{prefix}", format="mp4 (h264)", crf=18,
                   sheet_and_report=True),
    }  # fmt: skip
