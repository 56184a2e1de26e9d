"""Both doctors: their findings are true, and they fail only on problems that would fail a run."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch.nn.functional import scaled_dot_product_attention

from longtake import installation, versions
from longtake.attention import backends
from longtake.bootstrap import MIN_TORCH
from longtake.headless import packages, start
from longtake.headless.cli import main
from longtake.headless.commands.doctor import examine
from longtake.headless.hosts.stand_in import host_modules
from longtake.headless.hosts.stand_in.modules import HostState

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HostState]:
    with host_modules(tmp_path, lambda event: None) as state:
        yield state


def doctor_text() -> str:
    from longtake.nodes.doctor import Doctor

    output: Any = Doctor.execute()
    assert output.ui.as_dict() == {"text": output.args}
    return str(output.args[0])


def test_a_kernel_is_usable_when_pytorch_runs_it_and_has_a_reason_otherwise() -> None:
    found = backends.usable_backends(CPU)
    query = torch.zeros(1, 2, 64, 64)
    for name, kernel in backends.SDPA_KERNELS.items():
        with backends.sdpa_kernel(kernel):
            try:
                scaled_dot_product_attention(query, query, query)
                assert found[f"SDPA {name}"] is None
            except RuntimeError:
                assert "none for cpu" in (found[f"SDPA {name}"] or "")
    assert found["SDPA math"] is None


def test_the_reason_is_of_the_kernel_that_was_asked_for() -> None:
    warned = [
        "Memory efficient kernel not used because: (Triggered internally at a.cpp:1.)",
        "Memory Efficient attention has been runtime disabled. (Triggered internally at a.cpp:2.)",
        "Flash attention kernel not used because: (Triggered internally at a.cpp:3.)",
        "Flash attention only supports gpu architectures in the range [sm80, sm121]. (Triggered)",
    ]
    assert backends.first_reason(warned) == (
        "Flash attention only supports gpu architectures in the range [sm80, sm121]."
    )
    assert backends.first_reason(warned[:3]) is None


def test_flex_attention_needs_what_compiles_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.shutil, "which", lambda name: None)
    assert "no C++ compiler" in (backends.usable_backends(CPU)["FlexAttention"] or "")
    monkeypatch.setattr(backends.torch, "__version__", "2.5.1+cu124")
    assert "torch 2.6" in (backends.usable_backends(CPU)["FlexAttention"] or "")


def test_attention_packages_are_named_as_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users install SageAttention for speed, and no kernel of it is called here."""
    assert "sageattention" not in backends.usable_backends(CPU)
    monkeypatch.setattr(backends, "_is_installed", lambda module: module == "sageattention")
    cuda = torch.device("cuda")
    for device in (CPU, cuda):
        monkeypatch.setattr(backends, "_sdpa_reason", lambda kernel, device: None)
        found = backends.usable_backends(device)
        assert "not used" in (found["sageattention"] or "") and "xformers" not in found


def test_the_version_is_the_projects() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^version = \"(.*)\"", text) == [versions.pack_version()]


def test_the_node_names_the_core_the_folders_and_every_backend(host: HostState) -> None:
    text = doctor_text()
    assert text.startswith("All that Longtake needs is here")
    assert "ComfyUI: none (the stand-in of Longtake), computing on cpu" in text
    assert f"OK output: {host.folders['output']}" in text
    for name in backends.usable_backends(CPU):
        assert f"attention: {name} on cpu" in text


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    missing = installation.folder("output", tmp_path / "nowhere")
    assert missing.state == "bad" and "is not writable" in missing.text
    assert installation.folder("output", tmp_path).state != "bad"
    assert os.listdir(tmp_path) == []  # nothing is left behind
    assert installation.summary([missing]) == "Longtake cannot work here yet: see output."


def put_copy(folder: Path, name: str = "longtake") -> None:
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n', encoding="utf-8")


def test_two_copies_of_the_pack_are_named_by_both_doctors(
    tmp_path: Path, host: HostState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ComfyUI loads both: nodes of the last one, and the player's routes of the first."""
    packs = tmp_path / "ComfyUI" / "custom_nodes"
    put_copy(packs / "longtake")
    put_copy(packs / "Longtake-main.disabled")
    put_copy(packs / "long", name="longtake-tools")
    (packs / "pyproject.toml").mkdir()
    monkeypatch.setattr(installation, "ROOT", packs / "longtake")
    assert "single copy" not in doctor_text()
    put_copy(packs / "Longtake-main")
    said = f"{packs} holds 2 copies of Longtake (Longtake-main, longtake), and ComfyUI mixes"
    assert f"MISSING single copy: {said} their nodes and players; keep one" in doctor_text()
    for comfy in (packs.parent, None):
        findings = [f for f in examine(tmp_path / "out", comfy) if f.subject.startswith("single")]
        assert [(f.state, said in f.text) for f in findings] == [("bad", True)]
    monkeypatch.setattr(installation, "ROOT", tmp_path / "elsewhere" / "longtake")
    assert "single copy" not in doctor_text()


def test_a_missing_package_is_bad_and_a_missing_extra_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(installation, "version_of", lambda name: None)
    monkeypatch.setattr(installation.importlib.util, "find_spec", lambda name: None)
    states = {one.subject: one.state for one in installation.software()}
    assert states["einops"] == "bad" and states["python"] == "ok"
    assert {one.state for one in installation.extras()} <= {"note", "ok"}


@pytest.mark.parametrize(
    "version, is_old", [("10.0.1", True), ("9.5", True), ("10.1", False), ("13.0.0", False)]
)
def test_a_package_that_is_too_old_is_bad_and_the_text_says_how_to_update(
    monkeypatch: pytest.MonkeyPatch, version: str, is_old: bool
) -> None:
    """ComfyUI takes any version of Pillow, and 10.0 fails in the schedule's picture."""
    monkeypatch.setattr(installation, "version_of", lambda name: version)
    pillow = next(one for one in installation.software() if one.subject == "pillow")
    if is_old:
        needed = f"{version} is too old: Longtake needs 10.1 or newer; run: "
        assert (pillow.state, pillow.text) == (
            "bad", needed + f"{sys.executable} -m pip install --upgrade pillow"
        )  # fmt: skip
    else:
        assert (pillow.state, pillow.text) == ("ok", version)


def test_an_old_torch_is_bad_and_no_command_replaces_its_build(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(installation.torch, "__version__", "2.4.1+cu124")
    found = next(one for one in installation.software() if one.subject == "torch")
    assert found.state == "bad" and "needs 2.5 or newer; PyTorch's install page" in found.text


def test_the_oldest_versions_are_those_that_pip_is_told() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needed = dict(re.findall(r'(?m)^    "([a-z]+)>=([\d.]+)",$', text))
    assert {name: needed[name] for name in installation.OLDEST} == installation.OLDEST
    assert f"torch>={'.'.join(map(str, MIN_TORCH))}" in text


def test_the_node_looks_again_at_every_run(host: HostState) -> None:
    from longtake.nodes.doctor import Doctor

    assert not asyncio.iscoroutinefunction(Doctor.execute)
    assert Doctor.fingerprint_inputs() != Doctor.fingerprint_inputs()


def test_the_packages_of_a_start_are_those_that_pip_installs() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needed = text.partition("dependencies = [")[2].partition("]")[0]
    assert sorted(packages.PACKAGES.values()) == sorted(re.findall(r'"([a-z]+)>=', needed))


def test_all_missing_packages_are_named_with_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.importlib.util, "find_spec",
                        lambda name: None if name in ("av", "PIL") else name)  # fmt: skip
    assert packages.describe_lack(ImportError("No module named 'av'")) == (
        "Longtake needs av, pillow, which this Python lacks; run: "
        f"{packages.pip_install('av pillow')}"
    )


def test_a_package_that_is_too_old_for_an_import_is_named() -> None:
    with pytest.raises(ImportError) as caught:
        from einops import of_the_future  # noqa: F401
    assert "einops is installed but" in str(packages.describe_lack(caught.value))


def test_a_package_that_cannot_be_loaded_is_named_with_its_reason() -> None:
    code = compile("raise ImportError('DLL load\\nfailed')", "core.py", "exec")
    with pytest.raises(ImportError) as caught:
        exec(code, {"__name__": "av._core"})
    assert packages.describe_lack(caught.value) == (
        "av is installed but cannot be loaded (DLL load failed); run: "
        f"{packages.pip_install('--force-reinstall --no-deps av')}"
    )


@pytest.mark.parametrize("lack", ["av is missing", None])
def test_a_failed_load_ends_with_that_sentence_and_a_fault_of_ours_with_a_traceback(
    monkeypatch: pytest.MonkeyPatch, lack: str | None
) -> None:
    monkeypatch.setitem(sys.modules, "longtake.headless.cli", None)
    monkeypatch.setattr(start, "describe_lack", lambda error: lack)
    with pytest.raises(SystemExit if lack else ImportError, match=lack or "halted"):
        start._load()


def test_the_program_prints_its_version() -> None:
    done = CliRunner().invoke(main, ["--version"])
    assert done.exit_code == 0 and done.output == f"Longtake, version {versions.pack_version()}\n"
