"""Bind this checkout, whatever its folder name, to the package name `longtake`."""

import importlib.util
import sys
from pathlib import Path

root = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location(
    "longtake", root / "__init__.py", submodule_search_locations=[str(root)]
)
assert spec is not None and spec.loader is not None
sys.modules["longtake"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["longtake"])

# These run under ComfyUI's own Python (.ci/run starts them there), not under ours.
collect_ignore = [] if importlib.util.find_spec("comfy_api") else ["in_core"]
