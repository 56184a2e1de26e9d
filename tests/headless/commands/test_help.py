"""What `--help` says is what the options do."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from longtake.headless.cli import main


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("run", "Repeat it for other inputs."),
        ("batch", "With --serve or --ray: the file with the workers' key"),
        ("batch", "With --serve or --ray: the time after which"),
        ("worker", "Time to wait for a silent driver or server."),
        ("push", "ends with live.mp4 or live.ts"),
        ("doctor", "The exit code is 1 if one of them would make a run fail."),
        ("doctor", "ComfyUI checkout to check too"),
    ],
)
def test_help_says_where_an_option_has_an_effect(command: str, words: str) -> None:
    shown = CliRunner().invoke(main, [command, "--help"])
    assert shown.exit_code == 0 and words in " ".join(shown.output.split())
