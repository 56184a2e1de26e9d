"""Which ComfyUI checkouts can be used, by the version that each states."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtake.core.checkout import check_checkout
from longtake.errors import BadInput


def checkout(folder: Path, line: str) -> Path:
    (folder / "comfy_api").mkdir()
    (folder / "nodes.py").write_text("")
    (folder / "comfyui_version.py").write_text(f"# made by a build\n{line}\n")
    return folder


@pytest.mark.parametrize(
    "version", ["0.33.0rc1", "0.33rc1", "0.33.dev3", "v0.33", "0.33.0+abc", "0.33", "1", "0.100.2"]
)
@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_version_may_have_words_in_it(tmp_path: Path, version: str, quote: str) -> None:
    line = f"__version__ = {quote}{version}{quote}"
    assert check_checkout(checkout(tmp_path, line)) == version


@pytest.mark.parametrize("version", ["0.20.9", "v0.20", "0.3rc33", "0.dev33", "dev"])
def test_an_old_version_is_refused_in_any_form(tmp_path: Path, version: str) -> None:
    with pytest.raises(BadInput, match=f"is version {version}; update it, Longtake needs 0.21"):
        check_checkout(checkout(tmp_path, f'__version__ = "{version}"'))
