"""Values that no command can mean are wrong usage, exit code 2, before anything is begun."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from longtake.headless.cli import main

TAKES_NOTHING = {"comfy_flags", "step_list"}
"""Options whose default is an empty text: no flags, no list."""


def refused(*words: str) -> str:
    """What the command says of its usage."""
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2 and result.stdout == "", result.output
    return result.stderr


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name)


def command_of(words: tuple[str, ...]) -> click.Command:
    command: click.Command = main
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return command


def emptied() -> Iterator[tuple[str, ...]]:
    """Each command, with one of its values empty."""
    for words in commands(main):
        for parameter in command_of(words).params:
            flag = parameter.type == click.BOOL or getattr(parameter, "is_flag", False)
            if not flag and parameter.name not in TAKES_NOTHING:
                yield (*words, parameter.opts[0])


@pytest.mark.parametrize("words", list(emptied()), ids=" ".join)
def test_an_empty_value_is_wrong_usage(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    *names, value = words
    arguments = [
        parameter.opts[0] for parameter in command_of(tuple(names)).params
        if isinstance(parameter, click.Argument)
    ]  # fmt: skip
    if value in arguments:
        given = ["" if name == value else "x" for name in arguments]
    else:
        given = [*(["x"] * len(arguments)), value, ""]
    assert "Invalid value" in refused(*names, *given)
    assert not list(tmp_path.iterdir())


BATCH = ("batch", "w.json", "--serve", "127.0.0.1:0")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("rollouts", "gc", "--keep", "20XB"), "'20XB' is not a size; write one such as 20GB"),
        (("rollouts", "gc", "--keep", "-5"), "'-5' is not a size"),
        (("rollouts", "gc", "--keep", "20"), "'20' is not a size; write one such as 20GB"),
        (("batch", "w.json", "--serve", "127.0.0.1"), "'127.0.0.1' is not HOST:PORT"),
        (("batch", "w.json", "--serve", "127.0.0.1:70000"), "is not HOST:PORT, for example"),
        ((*BATCH, "--lease", "nan"), "'nan' is not a number"),
        ((*BATCH, "--lease", "inf"), "'inf' is not finite"),
        (("batch", "w.json", "--server", "x", "--patience", "nan"), "'nan' is not a number"),
        (("worker", "--join", "x:1", "--patience", "nan"), "'nan' is not a number"),
        (("schedule", "--stagger", "nan"), "'nan' is not a number"),
        (("schedule", "--shift", "nan"), "'nan' is not a number"),
        (("run", "w.json", "--report", "r/"), "'--report': 'r/' is a folder; name a file in it"),
        (("convert", "w.gguf", "r/"), "'r/' is a folder"),
        (("bench", "nosuite", "--json", "r/"), "'r/' is a folder"),
        (("schedule", "--png", "r.png/"), "'r.png/' is a folder"),
        (("run", "w.json", "--store", " "), "'--store': It is empty."),
        (("schedule", "--step-list", "a"), "'a' is not made of numbers; write timesteps"),
        (("run", "w.json", "--set", "foo"), "'--set': 'foo' is not NODE.INPUT=VALUE"),
        (("batch", "w.json", "--set", "4.seed"), "'4.seed' is not NODE.INPUT=VALUE"),
        (("batch", "w.json", "--server", "ftp://x"), "'ftp://x' is not an address such as"),
        (("worker", "--join", "ftp://x"), "'--join': 'ftp://x' is not an address such as"),
        (("worker", "--join", "x:1", "--server", "x:y"), "'--server': 'x:y' is not an address"),
        (("worker", "--join", "x:1", "--name", "a b"), "'--name': 'a b' is not a name"),
        (("osc", "somewhere"), "somewhere is no address; give one such as"),
        (("push", "somewhere", "udp://127.0.0.1:1"), "The first address is no live address"),
        (("push", "http://x/live.ts", "http://y/z"), "give one with rtmp, rtmps, srt, udp"),
        (("convert", "w.gguf", "w.pt"), "w.pt must end in .safetensors"),
        (("convert", "w.gguf", "w.safetensors", "--family", "x"), "--family 'x' is no family"),
        (("batch", "w.json", "--params", "w.txt", "--out", "o"), "use a .csv, .tsv, .json or"),
        (("bench", "nosuite"), "There is no benchmark suite 'nosuite'; choose one of"),
    ],
)
def test_a_value_that_none_can_mean_is_wrong_usage(
    words: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(*words)
    assert not list(tmp_path.iterdir()), "a wrong command leaves nothing behind"
