"""The documentation: links lead somewhere, names exist, pages stay short and read easily."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from longtake.headless.cli import main
from longtake.tools import locales

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
CHANGELOG = ROOT / "CHANGELOG.md"
GUIDES = sorted((ROOT / "docs" / "guide").glob("*.md"))
FOLDERS = ("docs", "training", "web/docs", "model/demo")
PAGES = sorted([*ROOT.glob("*.md"), *(p for name in FOLDERS for p in (ROOT / name).rglob("*.md"))])
MAX_GUIDE_LINES = 80
MAX_RELEASE_LINES = 70
MAX_SENTENCE_WORDS = 30
OURS = "https://github.com/longtake/longtake/blob/main/"


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def without_code(text: str) -> str:
    """The page without fenced and indented code."""
    text = re.sub(r"(?ms)^```.*?^```$", "", text)
    return re.sub(r"(?m)^    .*$", "", text)


def anchors(path: Path) -> set[str]:
    """The headings of a page as GitHub names them in links."""
    headings = re.findall(r"(?m)^#+ (.+)$", without_code(path.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def prose(text: str) -> Iterator[str]:
    """Paragraphs and list items, with the words of links and without tables and headings."""
    kept = [line for line in without_code(text).split("\n") if not re.match(r"[|#!]", line)]
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", "\n".join(kept)):
        yield re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(block.split()))


def sentences(text: str) -> Iterator[str]:
    for block in prose(text):
        yield from re.split(r"(?<=[.!?])\**\s+(?=[A-Z*`\d])", block)


def names_in_node_table(text: str, known: set[str]) -> set[str]:
    """The nodes of README's table by task, and what else stands between their separators."""
    section = text.partition("\n## Nodes\n")[2].partition("\n## ")[0]
    cells = " ; ".join(re.findall(r"(?m)^\| [^|-]+ \| ([^|]+) \|$", section)[1:])
    found = {name for name in known if name in cells}
    for name in sorted(found, key=len, reverse=True):  # one name holds a comma
        cells = cells.replace(name, "")
    return found | {rest.strip() for rest in re.split(r"[,;]", cells) if rest.strip()}


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        base, link = (ROOT, link.removeprefix(OURS)) if link.startswith(OURS) else (path, link)
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (base if base.is_dir() else base.parent) / name if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", GUIDES, ids=page_id)
def test_a_guide_is_one_screen_long(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MAX_GUIDE_LINES


def test_the_changelog_says_of_a_release_what_a_stranger_wants() -> None:
    """Short, by subject, and without mends of faults that no release had."""
    releases = CHANGELOG.read_text("utf-8").split("\n## ")[1:]
    for release in releases:
        lines = release.splitlines()
        assert len(lines) <= MAX_RELEASE_LINES
        subjects = [line for line in lines if line.startswith("**")]
        assert len(subjects) == len(set(subjects)) >= 3
    mends = r"; (it|they|he|she) \w+|no longer|used to|\bnow\b"
    assert not re.findall(mends, releases[-1]), "the first release has no faults to mend"


@pytest.mark.parametrize("path", [README, CHANGELOG, *GUIDES], ids=page_id)
def test_sentences_are_short(path: Path) -> None:
    long = [s for s in sentences(path.read_text("utf-8")) if len(s.split()) > MAX_SENTENCE_WORDS]
    assert not long


@pytest.mark.parametrize("path", [README, *GUIDES], ids=page_id)
def test_every_example_that_is_named_exists(path: Path) -> None:
    text = path.read_text("utf-8")
    named = re.findall(r"\*(?:Templates → longtake →\s+)?([a-z\d]+(?:_[a-z\d]+)+)\*", text)
    files = re.findall(r"example_workflows/[\w/.]+", text)
    for file in [*files, *(f"example_workflows/{name}.json" for name in named)]:
        assert (ROOT / file).is_file(), file


def test_the_node_table_names_every_node_but_the_doctor_and_no_other() -> None:
    known = {definition["display_name"] for definition in locales.english().values()}
    named = names_in_node_table(README.read_text("utf-8"), known)
    assert named == known - {"Longtake Doctor"}


@pytest.mark.parametrize("path", [p for p in PAGES if p.parent.name != "docs"], ids=page_id)
def test_every_command_and_suite_that_is_named_exists(path: Path) -> None:
    text = path.read_text("utf-8")
    for command in re.findall(r"(?:    |`)longtake ([a-z]+)\b", text):
        assert command in main.commands, command
    named = re.findall(r"longtake bench ([a-z_]+)|longtake\.benchmarks\.(\w+)", text)
    for suite in (cli or module for cli, module in named):
        assert list((ROOT / "benchmarks").glob(f"{suite}*")), suite


def test_no_text_sends_pip_to_a_package_of_our_name() -> None:
    """We publish none, so whoever takes the name would be installed."""
    sources = [path for path in ROOT.rglob("*.py") if ".venv" not in path.parts]
    for path in [*PAGES, *sources]:
        sent = re.search(r"pip install [\"'\w \[=]*\blongtake\b", path.read_text("utf-8"))
        assert sent is None, f"{path}: {sent}"


def test_the_paths_that_contributing_names_exist() -> None:
    paths = re.findall(r"`([\w./]+/[\w./]*)`", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    missing = [path for path in paths if "NODE_ID" not in path and "LANGUAGE" not in path
               and not path.startswith(".") and not (ROOT / path).exists()]  # fmt: skip
    assert paths and not missing
