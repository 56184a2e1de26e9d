"""`longtake bench gpu`: everything that needs a GPU in one command, to run and to send back.

A model of Wan 1.3B's shape with random weights makes chunks at 480x832 in bfloat16: with windows
of 12, 21 and 63 latent frames, compiled arithmetic, coded and offloaded caches, TempCache, sparse
attention by each kernel, and memories of 201 frames. Each case shows its first chunk, the chunks of
a long shot, decoding by taew2_1's shape, and its peak of memory beside the plan's. Self-Forcing's
published loop makes the same chunks. If COMFYUI_PATH names a real ComfyUI, its own AR sampler and
our loop take turns in it, with weights as the core chooses them and in fp8, and the official VAE's
shape decodes. FlashVSR, with
random weights too, enlarges to 1408x768, whole and in tiles, by gathering and by FlexAttention.
Then the process limits itself to 12, 16 and 24 GB. In each it runs the largest window that the plan
promises to fit.

    longtake bench gpu --json FILE
    python -m longtake.benchmarks.gpu --json FILE --minutes 5
    python -m longtake.benchmarks.gpu --device cpu --layers 2 --height 64 --width 96

Every finished case is kept beside FILE, and the same command goes on where it stopped. FILE's page,
a table in Markdown, lies beside it.
"""

from .suite import main

__all__ = ["main"]
