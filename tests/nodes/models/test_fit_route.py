"""The route of the line under the loaders, in a host's table of routes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from longtake.tests.support.lasting_host import lasting_host
from longtake.tests.support.model.family_files import header_only, official_shapes
from longtake.tests.support.model.flashvsr import store_parts

FILE = "self_forcing_dmd.safetensors"


@pytest.fixture
def routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[web.RouteTableDef]:
    """The stand-in with a table of routes, and a models folder with one file."""
    models, table = tmp_path / "models" / "diffusion_models", web.RouteTableDef()
    models.mkdir(parents=True)
    header_only(models / FILE, official_shapes("1.3B"))
    header_only(tmp_path / "models" / FILE, official_shapes("1.3B"))
    monkeypatch.chdir(tmp_path)
    with lasting_host(tmp_path / "out", lambda event: None):
        from longtake.nodes.models.fit_route import open_fit_route

        open_fit_route()  # without a web server it adds nothing
        monkeypatch.setattr(sys.modules["server"].PromptServer.instance, "routes", table)
        open_fit_route()
        yield table


def ask(routes: web.RouteTableDef, **choice: str) -> tuple[str, bool]:
    async def answer() -> tuple[str, bool]:
        app = web.Application()
        app.add_routes(routes)
        async with TestClient(TestServer(app)) as client:
            response = await client.get("/longtake/fit", params=choice)
            assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            said = await response.json()
            return said["text"], said["fits"]

    return asyncio.run(answer())


def test_the_route_answers_for_a_loaders_widgets(routes: web.RouteTableDef) -> None:
    text, fits = ask(routes, node="LongtakeLoadDemoModel")
    assert fits and "at 96x64. Fits" in text
    text, _ = ask(routes, node="LongtakeLoadModel", model_name=FILE, weight_dtype="fp8_e4m3fn")
    assert text.startswith("Self-Forcing, float8_e4m3fn: 1.3 GB weights + ")
    text, fits = ask(routes, node="LongtakeLoadModel", model_name=FILE, family="nonsense")
    assert not fits and "does not know" in text


def test_the_route_answers_for_flashvsr(routes: web.RouteTableDef, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "diffusion_models" / "FlashVSR"
    name = str(store_parts(folder).relative_to(folder.parent))
    beside = {part: "beside the model" for part in ("projector", "decoder", "prompt")}
    chosen = {"node": "LongtakeLoadFlashVSR", "model_name": name, "version": "1", **beside}
    text, fits = ask(routes, **chosen)
    assert fits and text.startswith("FlashVSR: ") and "at 1408x768. Fits" in text
    text, fits = ask(routes, **{**chosen, "decoder": "../TCDecoder.ckpt"})
    assert not fits and "is not in models/diffusion_models" in text
    text, fits = ask(routes, **{**chosen, "decoder": "FlashVSR/TCDecoder.ckpt"})
    assert fits
    text, fits = ask(routes, **{**chosen, "model_name": "FlashVSR/none.safetensors"})
    assert not fits and text.endswith(
        "put FlashVSR's four files into models/diffusion_models/FlashVSR (Hugging Face: "
        "JunhaoZhuang/FlashVSR)."
    )


def test_no_answer_about_flashvsr_tells_where_the_files_are(
    routes: web.RouteTableDef, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "diffusion_models" / "FlashVSR"
    name = str(store_parts(folder).relative_to(folder.parent))
    beside = {part: "beside the model" for part in ("projector", "decoder", "prompt")}
    chosen = {"node": "LongtakeLoadFlashVSR", "model_name": name, **beside}

    def says(**choice: str) -> str:
        text, fits = ask(routes, **{**chosen, **choice})
        assert not fits and "diffusion_models" not in text, text
        return text

    assert says(model_name="FlashVSR/TCDecoder.ckpt").startswith("TCDecoder.ckpt is FlashVSR's")
    assert says(decoder="FlashVSR/LQ_proj_in.ckpt").startswith("LQ_proj_in.ckpt is no decoder")
    copy = folder / "copy.ckpt"
    copyfile(folder / "TCDecoder.ckpt", copy)
    assert says().startswith("TCDecoder.ckpt and copy.ckpt both hold")
    copy.unlink()
    (folder / "LQ_proj_in.ckpt").write_bytes(b"half")
    assert says().startswith("LQ_proj_in.ckpt ")
    (folder / "LQ_proj_in.ckpt").unlink()
    assert says().startswith(
        "FlashVSR is incomplete: FlashVSR lacks the low-quality projector (LQ_proj_in.ckpt);"
    )


def test_a_missing_file_of_an_example_is_answered_with_its_address(
    routes: web.RouteTableDef,
) -> None:
    text, fits = ask(routes, node="LongtakeLoadModel", model_name="minwm_dmd.pt")
    assert not fits and "download https://huggingface.co/MIN-Lab/minWM/" in text


def test_the_route_reads_listed_files_alone(routes: web.RouteTableDef, tmp_path: Path) -> None:
    for name in (f"../{FILE}", str(tmp_path / "models" / FILE), "", "/etc/passwd"):
        text, fits = ask(routes, node="LongtakeLoadModel", model_name=name)
        assert not fits and "is not in models/diffusion_models" in text
