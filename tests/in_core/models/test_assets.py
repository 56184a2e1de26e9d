"""The core's list of assets, which newer cores keep of everything in the output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_the_list_has_the_clip_and_not_its_chunks(
    core: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = pytest.importorskip("app.assets.services.file_utils", reason="the core has no assets")
    import folder_paths

    from longtake.nodes.host import rollout_folder

    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    clip, chunk = tmp_path / "longtake" / "clip.mp4", rollout_folder() / "ab.safetensors"
    for file in (clip, chunk):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    assert files.list_files_recursively(str(tmp_path)) == [str(clip)]
