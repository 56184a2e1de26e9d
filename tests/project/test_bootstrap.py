"""bootstrap.py without installing anything: what it would run, and what it refuses."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["bootstrap"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bootstrap = load()


class FakeRun:
    """Records commands; `import torch` fails unless `torch` is set, pip fails with `pip_error`."""

    def __init__(
        self, *, torch: bool = False, pip_error: str = "", planned: Sequence[str] = ("torch",)
    ) -> None:
        self.commands: list[list[str]] = []
        self.torch = torch
        self.pip_error = pip_error
        self.planned = planned

    def __call__(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.commands.append(list(command))
        code, error = 0, ""
        if "import torch" in command:
            code = 0 if self.torch else 1
        if "install" in command and self.pip_error:
            code, error = 1, self.pip_error
        if "--report" in command:
            plan = {"install": [{"metadata": {"name": name}} for name in self.planned]}
            Path(command[command.index("--report") + 1]).write_text(json.dumps(plan))
        return subprocess.CompletedProcess(command, code, "", error)

    @property
    def installs(self) -> list[list[str]]:
        return [
            c[c.index("install") + 3 :]
            for c in self.commands
            if "install" in c and "--dry-run" not in c
        ]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    made = bootstrap.Environment(tmp_path / ".venv")

    def create(folder: Path, **_: object) -> None:
        made.bin.mkdir(parents=True)
        made.python.write_text("")
        (folder / "pyvenv.cfg").write_text("")

    monkeypatch.setattr(bootstrap.venv, "create", create)
    monkeypatch.setattr(bootstrap, "base_has_torch", lambda: False)
    monkeypatch.setattr(bootstrap, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(bootstrap.sys, "platform", "linux")
    return made


def test_a_first_run_installs_torch_then_the_project(environment: object) -> None:
    run = FakeRun()
    bootstrap.prepare(environment, bootstrap.requirements("auto", ()), run)
    assert run.installs == [["torch==2.13.0"], ["--editable", str(ROOT)]]


@pytest.mark.parametrize(
    ("version", "in_venv", "expected"),
    [("2.13.0+cpu", False, True), ("2.5.0", False, True), ("2.4.1", False, False),
     (None, False, False), ("2.13.0", True, False)],
)  # fmt: skip
def test_a_torch_is_shared_if_it_is_recent_and_in_no_environment_of_its_own(
    monkeypatch: pytest.MonkeyPatch, version: str | None, in_venv: bool, expected: bool
) -> None:
    """A virtual environment sees the packages of the Python below, not those of another one."""

    def installed(name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", installed)
    monkeypatch.setattr(bootstrap.sys, "base_prefix", "/usr")
    monkeypatch.setattr(bootstrap.sys, "prefix", "/home/me/venv" if in_venv else "/usr")
    assert bootstrap.base_has_torch() is expected
    if in_venv:
        assert "in a virtual environment cannot share its torch" in bootstrap.HELP


def test_a_second_run_installs_nothing(environment: object) -> None:
    bootstrap.prepare(environment, bootstrap.requirements("auto", ("test",)), FakeRun())
    run = FakeRun()
    bootstrap.prepare(environment, bootstrap.requirements("auto", ()), run)
    assert run.installs == []


@pytest.mark.parametrize(
    "change", [{"torch": "torch==2.12"}, {"project": "other"}, {"extras": ("test",)}]
)
def test_what_changed_is_installed_into_the_same_environment(
    environment: object, change: dict[str, object]
) -> None:
    want = bootstrap.requirements("auto", ())
    bootstrap.prepare(environment, want, FakeRun())
    marker = environment.folder / "marker"  # type: ignore[attr-defined]
    marker.write_text("")
    run = FakeRun(torch=True)
    bootstrap.prepare(environment, bootstrap.Requirements(**{**vars(want), **change}), run)
    assert run.installs and marker.exists()


def test_another_python_makes_the_environment_anew(environment: object) -> None:
    want = bootstrap.requirements("auto", ())
    bootstrap.prepare(environment, want, FakeRun())
    marker = environment.folder / "marker"  # type: ignore[attr-defined]
    marker.write_text("")
    bootstrap.prepare(
        environment, bootstrap.Requirements(**{**vars(want), "python": "3.99"}), FakeRun()
    )
    assert not marker.exists()


def test_an_interrupted_install_is_taken_up_again(environment: object) -> None:
    with pytest.raises(bootstrap.SetupError):
        bootstrap.prepare(
            environment,
            bootstrap.requirements("auto", ()),
            FakeRun(pip_error="ERROR: no space left"),
        )
    run = FakeRun()
    bootstrap.prepare(environment, bootstrap.requirements("auto", ()), run)
    assert len(run.installs) == 2


def test_a_torch_that_is_there_already_is_used(environment: object) -> None:
    run = FakeRun(torch=True)
    bootstrap.prepare(environment, bootstrap.requirements("auto", ()), run)
    assert run.installs == [["--editable", str(ROOT)]]


@pytest.mark.parametrize(
    ("choice", "arguments"),
    [
        ("torch --index-url file:///wheels", ["torch", "--index-url", "file:///wheels"]),
        ("torch==2.12", ["torch==2.12"]),
    ],
)
def test_the_user_chooses_the_torch(environment: object, choice: str, arguments: list[str]) -> None:
    run = FakeRun(torch=True)
    bootstrap.prepare(environment, bootstrap.requirements(choice, ()), run)
    assert run.installs[0] == arguments


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems get CPU builds")
def test_gigabytes_of_cuda_are_announced_where_no_gpu_is(
    environment: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "has_nvidia_gpu", lambda: False)
    run = FakeRun(planned=("torch", "nvidia-cublas", "nvidia-cudnn"))
    bootstrap.prepare(environment, bootstrap.requirements("auto", ()), run)
    assert "2 NVIDIA packages, several GB" in capsys.readouterr().out
    bootstrap.prepare(environment, bootstrap.requirements("auto", ()), FakeRun(planned=("torch",)))
    assert "NVIDIA" not in capsys.readouterr().out


def test_pips_own_error_is_the_reason(environment: object) -> None:
    with pytest.raises(
        bootstrap.SetupError, match=r"pip could not install torch==9: No matching distribution"
    ):
        run = FakeRun(pip_error="WARNING: old\nERROR: No matching distribution\n")
        bootstrap.prepare(environment, bootstrap.requirements("torch==9", ()), run)


def test_a_folder_that_is_no_environment_is_left_alone(environment: object) -> None:
    environment.folder.mkdir()  # type: ignore[attr-defined]
    (environment.folder / "mine").write_text("keep")  # type: ignore[attr-defined]
    with pytest.raises(bootstrap.SetupError, match="not a virtual environment"):
        bootstrap.prepare(environment, bootstrap.requirements("auto", ()), FakeRun())
    assert (environment.folder / "mine").read_text() == "keep"  # type: ignore[attr-defined]


def test_an_old_python_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 9, 1, "final", 0))
    assert bootstrap.main(["demo"]) == 1
    assert capsys.readouterr().err == (
        "bootstrap: Longtake needs Python 3.10 or newer, but this is 3.9.1; "
        "run bootstrap.py with a newer Python.\n"
    )


def test_options_after_the_task_go_to_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(bootstrap, "prepare", lambda *_: None)
    monkeypatch.setattr(
        bootstrap, "run_visibly", lambda command: commands.append(list(command)) or 0
    )
    assert bootstrap.main(["demo", "--out", "here", "--set", "4.seed=7"]) == 0
    assert commands[0][1:] == ["run", str(bootstrap.WORKFLOW), "--out", "here", "--set", "4.seed=7"]
    assert bootstrap.main(["test", "-k", "cache"]) == 0
    assert commands[1][1:] == [*bootstrap.PARALLEL, "-k", "cache"]
