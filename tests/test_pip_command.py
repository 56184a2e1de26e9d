"""The command installs into the Python that runs the program, not into any other."""

from __future__ import annotations

import subprocess
import sys

import pytest

from longtake.pip_command import pip_install


def test_the_command_runs_the_pip_of_this_python() -> None:
    command = pip_install("--help")
    said = subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout
    assert "pip install" in said and f"{sys.executable} -m pip" in said


def test_a_python_in_a_folder_with_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", r"C:\My ComfyUI\python_embeded\python.exe")
    expected = r'"C:\My ComfyUI\python_embeded\python.exe" -m pip install av'
    assert pip_install("av") == expected
