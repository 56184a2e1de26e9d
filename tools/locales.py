"""Write locales/ and the player's words: English from the nodes' own definitions and from what the
player's modules `say`, other languages by the translations.

    python -m longtake.tools.locales        # writes what there is, and names what a language lacks

`tools/translations/LANGUAGE.json` maps every English sentence or label that a node shows to its
translation. A changed sentence is a new one: its old translation is then one too many.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..headless.hosts.stand_in import installed
from ..nodes.categories import ALL

ROOT = Path(__file__).resolve().parents[1]
LOCALES = ROOT / "locales"
TRANSLATIONS = ROOT / "tools" / "translations"
PLAYER = ROOT / "web" / "player"
WORDS = PLAYER / "words"
SAID = re.compile(r"(?<![#.\w])say\(\s*\"((?:[^\"\\]|\\.)*)\"")  # in JavaScript
LANGUAGES = ("de", "es", "fr", "ja", "ko", "zh")

Definitions = dict[str, Any]
Catalogue = dict[str, str]


def english() -> Definitions:
    """nodeDefs.json in English: what the nodes say themselves."""
    with tempfile.TemporaryDirectory() as folder, installed(Path(folder), lambda event: None):
        from ..nodes.extension import NODES

        return {s.node_id: _node(s) for s in (node.define_schema() for node in NODES)}


def sentences(definitions: Definitions) -> Iterator[str]:
    """Every text in the definitions, in order; some more than once."""
    for value in definitions.values():
        if isinstance(value, dict):
            yield from sentences(value)
        else:
            yield value


def categories() -> list[str]:
    """The folder names of ComfyUI's node menu that hold this pack's nodes."""
    return list(dict.fromkeys(name for path in ALL for name in path.split("/")))


def player_sentences() -> list[str]:
    """Every text that the player says by itself, in the modules' order."""
    modules = sorted(PLAYER.rglob("*.mjs"))
    texts = (path.read_text(encoding="utf-8") for path in modules)
    return list(dict.fromkeys(said for text in texts for said in SAID.findall(text)))


def player_words(known: Catalogue) -> dict[str, str]:
    """What the player says, in the language of a catalogue; what that lacks is left out."""
    return {said: known[said] for said in player_sentences() if said in known}


def translated(definitions: Definitions, say: Callable[[str], str]) -> Definitions:
    """The same definitions, every text of them as `say` says it."""
    return {
        key: translated(value, say) if isinstance(value, dict) else say(value)
        for key, value in definitions.items()
    }


def said_by(known: Catalogue) -> Callable[[str], str]:
    """Each text in the language of a catalogue; what that lacks stays English."""
    return lambda text: known.get(text, text)


def catalogue(language: str) -> Catalogue:
    """The translations of a language, by the English."""
    text = (TRANSLATIONS / f"{language}.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def files(language: str, definitions: Definitions, folders: Definitions) -> dict[Path, str]:
    """The files of a language below `locales`, as they should be; `folders` names categories."""
    place, main = LOCALES / language, {"nodeCategories": folders}
    return {place / "nodeDefs.json": _json(definitions), place / "main.json": _json(main)}


def words_file(language: str, known: Catalogue) -> dict[Path, str]:
    """The player's file of a language, as it should be."""
    return {WORDS / f"{language}.json": _json(player_words(known))}


def main() -> int:
    """Write all files; 1 if a language lacks something, which then stays English."""
    here = english()
    folders = {name: name for name in categories()}
    wanted = list(dict.fromkeys([*sentences(here), *folders, *player_sentences()]))
    _write(files("en", here, folders))
    lacking = 0
    for language in LANGUAGES:
        known = catalogue(language)
        for sentence in wanted:
            if sentence not in known:
                lacking += 1
                sys.stdout.write(f"{language}.json lacks: {json.dumps(sentence)}\n")
        used = {sentence: known[sentence] for sentence in wanted if sentence in known}
        _write({TRANSLATIONS / f"{language}.json": _json(used)})
        say = said_by(used)
        _write(files(language, translated(here, say), translated(folders, say)))
        _write(words_file(language, used))
    return int(lacking > 0)


def _node(schema: Any) -> Definitions:
    inputs = {one.id: {"name": one.display_name or one.id, "tooltip": one.tooltip}
              for one in schema.inputs}  # fmt: skip
    outputs = {str(number): _output(one) for number, one in enumerate(schema.outputs)}
    named = {"display_name": schema.display_name, "description": schema.description}
    return {**named, "inputs": inputs, "outputs": outputs}


def _output(declared: Any) -> Definitions:
    told = {"tooltip": declared.tooltip} if declared.tooltip else {}
    return {"name": declared.display_name or declared.get_io_type(), **told}


def _json(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def _write(contents: dict[Path, str]) -> None:
    for path, text in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
