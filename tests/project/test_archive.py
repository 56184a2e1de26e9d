"""What the registry gets: everything that a user of the pack needs, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from longtake.model.preset import DEMO_FOLDER, FAST_FOLDER
from longtake.tools import archive

ROOT = Path(__file__).resolve().parents[2]
NEEDED = {
    "__init__.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE",
    "nodes/host/__init__.py", "nodes/host/memory.py", "installation.py", "attention/dense.py",
    "model/demo/dit.safetensors", "model/demo/fast/dit.safetensors",
    "headless/cli.py", "web/docs/LongtakeSampler.md", "example_workflows/1_text_to_stream.json",
}  # fmt: skip
UNWANTED = {"tests", "tools", "benchmarks", "training", "docs", ".ci", "bootstrap.py"}
MAX_BYTES = 24 << 20


@pytest.fixture(scope="module")
def members() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so there is nothing to publish from")
    return archive.members()


def test_the_archive_holds_the_pack_and_not_its_development(members: list[str]) -> None:
    assert set(members) >= NEEDED
    assert {path.split("/")[0] for path in members}.isdisjoint(UNWANTED)


def test_an_installed_package_has_the_data_that_its_code_reads() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    [patterns] = re.findall(r"(?m)^\[tool.setuptools.package-data\]\nlongtake = (\[.+\])$", text)
    packed = {path for pattern in json.loads(patterns) for path in ROOT.glob(pattern)}
    weights = {*DEMO_FOLDER.rglob("*.safetensors")}
    assert {FAST_FOLDER / "dit.safetensors", DEMO_FOLDER / "dit.safetensors"} <= weights <= packed
    assert ROOT / "example_workflows/api/1_text_to_stream.json" in packed


def test_the_archive_stays_small(members: list[str], tmp_path: Path) -> None:
    assert archive.write(tmp_path / "pack.zip") <= MAX_BYTES
    pictures = [ROOT / path for path in members if path.startswith("web/docs/")]
    assert sum(path.stat().st_size for path in pictures) <= 2 << 20


def test_nothing_in_the_archive_imports_what_is_left_out(members: list[str]) -> None:
    wanted = re.compile(rf"(?m)^\s*(from|import)\s+\.*({'|'.join(UNWANTED - {'docs', '.ci'})})\b")
    for path in members:
        if path.endswith(".py"):
            assert not wanted.search((ROOT / path).read_text(encoding="utf-8")), path


def test_the_project_is_described_as_the_registry_wants_it() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    fields = dict(re.findall(r'(?m)^"?([A-Za-z -]+)"? = "(.+)"$', text))
    assert re.fullmatch(r"[a-z][a-z0-9_.-]{2,99}", fields["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", fields["version"])
    assert {"Repository", "Documentation", "Bug Tracker"} <= fields.keys()
    assert {"PublisherId", "DisplayName", "Icon", "Banner", "requires-comfyui"} <= fields.keys()
    for name in ("Icon", "Banner"):  # on the address's branch, that is this repository's file
        assert (ROOT / fields[name].partition("/main/")[2]).is_file()
    assert "license = { file" in text
