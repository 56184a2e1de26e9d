"""The command line's use of the processor: chosen before torch is loaded, the user's own first."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from longtake import installation
from longtake.headless.processor import choose_threads, container_cores

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT")


def chosen(cgroup: Path, **given: str) -> dict[str, str]:
    environment = dict(given)
    choose_threads(environment, cgroup)
    return environment


def test_waiting_threads_sleep_unless_the_user_chose(tmp_path: Path) -> None:
    ours = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"}
    assert chosen(tmp_path) == ours
    for policy in ("ACTIVE", "PASSIVE"):
        assert chosen(tmp_path, OMP_WAIT_POLICY=policy) == {"OMP_WAIT_POLICY": policy}
    assert chosen(tmp_path, GOMP_SPINCOUNT="5") == ours | {"GOMP_SPINCOUNT": "5"}


def test_a_container_gets_no_more_threads_than_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert container_cores(tmp_path) == 2 and chosen(tmp_path)["OMP_NUM_THREADS"] == "2"
    for name in NAMES[1:3]:
        assert "2" not in chosen(tmp_path, **{name: "5"}).values()
    for text, cores in (("max 100000", None), ("1600000 100000", None), ("50000 100000", 1)):
        (tmp_path / "cpu.max").write_text(text)
        assert container_cores(tmp_path) == cores


def test_older_containers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for quota, cores in (("300000", 3), ("-1", None)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        assert container_cores(tmp_path) == cores


@pytest.mark.some_cases(2)
@pytest.mark.skipif(sys.platform != "linux", reason="shows the environment of GNU's OpenMP")
@pytest.mark.each_value
@pytest.mark.parametrize("module", ["start", "cli"])
@pytest.mark.parametrize(
    ("given", "policy", "spins"), [(None, "PASSIVE", "2000"), ("PASSIVE", "PASSIVE", "0")]
)
def test_torch_sees_the_choice_however_the_program_is_started(
    tmp_path: Path, module: str, given: str | None, policy: str, spins: str
) -> None:
    """OpenMP itself prints what it has read while torch is loaded."""
    (tmp_path / "longtake").symlink_to(ROOT)
    environment = {k: v for k, v in os.environ.items() if k not in NAMES}
    environment |= {"OMP_DISPLAY_ENV": "verbose", "PYTHONPATH": str(tmp_path)}
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given
    run = "from longtake.headless.start import main; main()"
    how = ["-c", run] if module == "start" else ["-m", "longtake.headless.cli"]
    done = subprocess.run(
        [sys.executable, *how, "--help"], env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert re.findall(r"OMP_WAIT_POLICY = '(\w+)'", done.stderr) == [policy]
    assert re.findall(r"GOMP_SPINCOUNT = '(\w+)'", done.stderr) == [spins]


def test_the_program_starts_where_the_processor_is_chosen() -> None:
    assert 'longtake = "longtake.headless.start:main"' in (ROOT / "pyproject.toml").read_text()


def test_doctor_says_how_threads_are_used_and_when_they_spin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def found() -> list[tuple[str, str]]:
        findings = installation.devices(1 << 40)
        return [(f.state, f.text) for f in findings if f.subject == "processor"]

    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    for wide in (False, True):
        monkeypatch.setattr(installation, "outdoes_mkl", lambda wide=wide: wide)
        assert ("multiply by oneDNN" in found()[0][1]) == wide
    [(state, text)] = found()
    assert state == "ok" and "; small models: 2 to make chunks, 1 to decode" in text
    monkeypatch.delenv("OMP_WAIT_POLICY")
    assert [state for state, _ in found()] == ["ok", "note"]
    assert "start ComfyUI with OMP_WAIT_POLICY=PASSIVE" in found()[1][1]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    [(state, text)] = found()
    assert state == "ok" and "small models" not in text
