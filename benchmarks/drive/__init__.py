"""`longtake bench drive`: a person drives the demo in Chromium, on the cores that make the shot.

Starts `longtake run drive_live.json --watch`: quality fast, chunks of one latent frame. A
page in Chromium presses *Drive* and then keys, as a person does, but from a seed. It does so with
each choice of *When keys act*.

Frames a second are pictures drawn on the player's canvas. The shot plays at 16, so a page can show
no more of it. At double speed it can show 32, and each is made, encoded, sent, decoded and drawn at
that moment, on the same cores. The 24 frames a second are judged there.

Key to pixel is the time from a press, as the browser stamps it, to the first picture on the canvas
whose scenery has moved: by 0.3 pixels, or by half more than it jumps while the camera stands still,
which is a figure too. It is measured where an arrow key is held and the camera stands still before.
A tap moves the demo's scenery by less than can be seen. The player's own figure, for all presses
and releases, is reported beside it. So is the difference between the two for the same press. What
the monitor adds is in neither.

    python -m longtake.benchmarks.drive --presses 10 --mode hold --json out.json

measures a part. The suite needs Chromium, Node.js and `npm ci --prefix tests/browser`.
"""

from .suite import main

__all__ = ["main"]
