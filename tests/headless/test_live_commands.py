"""`longtake push` and `longtake osc` as users type them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from longtake.headless import cli
from longtake.headless.osc.addresses import ADDRESSES
from longtake.headless.osc.bridge import Bridge
from longtake.tests.support.server_process import free_port

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "osc.md"


def test_push_takes_a_target_with_a_key_from_the_environment_and_does_not_print_it() -> None:
    command = ["push", "http://127.0.0.1:1/live.mp4"]
    assert CliRunner().invoke(cli.main, command).exit_code == 2
    secret = {"LONGTAKE_PUSH": "file:///SECRET"}
    refused = CliRunner().invoke(cli.main, command, env=secret)
    assert refused.exit_code == 2 and "rtmp, rtmps, srt, udp" in refused.output
    assert "SECRET" not in refused.output


def test_osc_names_a_bad_address_and_its_help_lists_what_the_page_lists() -> None:
    pytest.importorskip("pythonosc", reason="needs python-osc")
    refused = CliRunner().invoke(cli.main, ["osc", "somewhere", "--port", "0"])
    assert refused.exit_code == 2 and "is no address" in refused.output
    shown = CliRunner().invoke(cli.main, ["osc", "--help"]).output
    page = PAGE.read_text(encoding="utf-8")
    for name, address in ADDRESSES.items():
        assert name in shown and f"| `{name}` | {address.arguments} | {address.effect} |" in page


def test_osc_says_at_its_start_that_nobody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on: a run may begin later."""
    pytest.importorskip("pythonosc", reason="needs python-osc")
    run = Bridge.run

    def run_shortly(bridge: Bridge) -> None:
        bridge.close()
        run(bridge)

    monkeypatch.setattr(Bridge, "run", run_shortly)
    address = f"http://127.0.0.1:{free_port()}"
    done = CliRunner().invoke(cli.main, ["osc", address, "--port", "0"], env={"COLUMNS": "300"})
    assert done.exit_code == 0 and f"{address} does not answer" in done.output
    assert "It still listens, for a run that begins later." in done.output
