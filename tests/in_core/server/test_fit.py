"""The line under the loaders, from the core's own server, in ComfyUI's own front end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import urlencode

import pytest

from longtake.tests.in_core.support.canvas_runner import drive
from longtake.tests.in_core.support.client import Client
from longtake.tests.support.model.family_files import header_only, official_shapes
from longtake.tests.support.model.flashvsr import store_headers

SMALL, LARGE, BAD = "self_forcing_dmd.safetensors", "krea_14b.safetensors", "bad.safetensors"


@pytest.fixture
def files(base: Path) -> list[str]:
    """Files of real sizes without weights, and one that is no model."""
    folder = base / "models" / "diffusion_models"
    header_only(folder / SMALL, official_shapes("1.3B"))
    header_only(folder / LARGE, official_shapes("14B"))
    (folder / BAD).write_bytes(b"not a model")
    return [BAD, LARGE, SMALL]


@pytest.mark.usefixtures("files")
def test_the_route_reads_listed_files_alone(client: Client, base: Path) -> None:
    def ask(**choice: str) -> dict[str, object]:
        return json.loads(client.get(f"/longtake/fit?{urlencode(choice)}"))

    (base / "models" / "secret.safetensors").write_bytes(b"x")
    assert ask(node="LongtakeLoadDemoModel")["fits"] is True
    text = str(ask(model_name=SMALL, weight_dtype="fp8_e4m3fn")["text"])
    assert text.startswith("Self-Forcing, float8_e4m3fn: 1.3 GB weights + ")
    for name in ("../secret.safetensors", str(base / "models" / "secret.safetensors"), ""):
        answer = ask(model_name=name)
        assert not answer["fits"] and "is not in models/diffusion_models" in str(answer["text"])
    assert "does not know" in str(ask(model_name=SMALL, family="nonsense")["text"])


def test_the_line_of_flashvsr_counts_all_its_files(client: Client, base: Path) -> None:
    """Files of the published sizes, without weights: float32 on the CPU."""
    name = "FlashVSR-v1.1/diffusion_pytorch_model_streaming_dmd.safetensors"
    folder = store_headers(base / "models" / "diffusion_models" / Path(name).parent).parent
    choice = {"node": "LongtakeLoadFlashVSR", "model_name": name, "version": "1.1"}
    text = str(json.loads(client.get(f"/longtake/fit?{urlencode(choice)}"))["text"])
    assert text.startswith("FlashVSR: 6.5 GB weights") and "1408x768" in text
    shutil.rmtree(folder)


@pytest.mark.browser
@pytest.mark.parametrize("vue", [False, True])
def test_a_loader_says_whether_its_file_fits(client: Client, files: list[str], vue: bool) -> None:
    step = {"do": "fitLines", "vue": vue, "files": files}
    [[demo, bad, large, small, reopened]] = drive(client.url, [step])
    assert "at 96x64. Fits" in demo
    assert bad.startswith("bad.safetensors is not a safetensors file")
    assert large.startswith("Krea Realtime, float32: 53.2 GB weights + ")
    assert small.startswith("Self-Forcing, float32: 5.3 GB weights + ") and "832x480" in small
    assert reopened.split(". Fits")[0] == small.split(". Fits")[0]  # free memory changes
