"""The note on the canvas of each example: what it shows, and what to try."""

from __future__ import annotations

TITLE = "What this shows"
PLACE = (0, 230, 280, 250)
"""Left, top, width, height on the canvas, in its pixels: below the model's loader."""

NOTES: dict[str, str] = {
    "1_text_to_stream": """\
- A prompt becomes a video that you watch while it is made. The prompt changes at 5 seconds.
- Press Run. Then edit the prompt, or set `length` to 0 for an endless shot, and press Run again.
- Your own model: replace Load Demo Model by Load Causal Video Model and loaders for CLIP and VAE.
""",
    "2_long_shot": """\
- Half a minute of video with four prompts. Memory stays constant, however long the shot.
- Press Cancel half-way, then Run: the shot continues where it stopped.
- Try a longer `length`, or more lines in the Prompt Timeline.
""",
    "3_image_to_stream": """\
- The shot begins with a picture. The lower row makes one, so that the example runs as it is.
- Replace the node *Your picture here* by Load Image to use your own.
- For another size put ComfyUI's Upscale Image behind it, with the shot's width and height.
""",
    "4_video_to_stream": """\
- A clip is redrawn under another prompt and keeps its motion. Your own video keeps its sound too.
- Replace the node *Your video here* by Load Video to use your own.
- Try `level` of Known Video: 0.6 keeps colours of the clip, 0.9 forgets its motion.
""",
    "5_continue_video": """\
- A clip goes on: its last two seconds begin the new shot, and both are joined at the best cut.
- Replace the node *Your video here* by Load Video to use your own.
- Try another prompt for what follows, or `cross-fade` in Splice Rollouts.
""",
    "6_first_and_last_picture": """\
- Two pictures are known, the first and the last. The model finds the way between them.
- Replace *First picture here* and *Last picture here* by Load Image and Upscale Image (96x64).
- Try another time for the last picture: `start` of Known Frames and `length` of the sampler.
""",
    "7_fork_after_rewind": """\
- A shot is cut off at 2.5 seconds and goes on under another prompt. Both are shown side by side.
- The cut lies at the nearest chunk. What comes before is made and stored once.
- Try another time in `at`, or another `new_seed` instead of a new prompt.
""",
    "8_long_memory": """\
- The camera goes there and back, and the model remembers what it saw: see ANN-Sparse Attention.
- TempCache keeps what differs from all of the past in a cache of constant size.
- Switch `temp_cache` off, set `policy` to `window + sink`, and compare the second half.
""",
    "9_history_guidance": """\
- One shot under four guidances: text only, vanilla, vanilla in early steps only, fractional.
- Strong `vanilla` guidance breaks within half a minute; in early steps only it stays clean.
- Try another `scale`, or `from_level` among the advanced inputs.
""",
    "come_back": """\
- The camera goes left for half a minute and comes back. On the left the same trees return.
- The model's own memory fetches the past frames that saw this place. On the right it cannot.
- Set `policy` of *A window that forgets* to `from model`, and both remember.
""",
    "drive_live": """\
- You are the camera. Press Run, then *Drive* in the player, then hold A or D.
- *Keep drive* writes your drive into Camera Path, and the next run makes the same shot again.
- Try lines in Camera Path instead: `0: pan left` and `5: still`.
""",
    "live_camera": """\
- Your camera is redrawn under a prompt. Press Run, then *Use the camera* in the player.
- What came in is on disk: the same shot again needs no camera. Another `take` films anew.
- An RTSP, UDP or HTTP stream: set `source` to `url`. Try `level`: 0.5 stays close to the camera.
""",
    "negative_prompt": """\
- One shot twice, at cfg 1. The prompt says no time of day, and `negative` says "at sunset".
- On the left the negative prompt has no effect. On the right, NAG Guidance keeps the sunset out.
- Try another `negative`, such as "a yellow ball", or a `scale` of 3.
""",
    "does_not_wear": """\
- One shot twice, under guidance so strong that it wears out. On the right, a rule keeps it.
- The rule: the first ten latent frames, half the window, are a sink and stay in sight.
- Try a weaker `scale`, at which nothing wears out, or recency forcing in the node Memory Rules.
""",
}
