"""`longtake batch`: many runs, here or on ComfyUI servers, and a table of their results."""
