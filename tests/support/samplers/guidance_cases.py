"""Ways of guiding and what each is a sum of, for tests against the reference without a cache."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from longtake.samplers.guidance import (
    DROP,
    AgeRange,
    Branch,
    Guidance,
    OwnPrompt,
    View,
    cfg,
    extend,
    fractional,
    last,
    magi,
    stabilise,
    temporal,
    vanilla,
)
from longtake.tests.support.samplers.brute_force import CHUNK, Term, Terms
from longtake.tests.support.tiny_model import embedding


def whole(weight: float, **other: object) -> Terms:
    """The whole history."""
    return lambda first: [Term(weight, range(first), **other)]  # type: ignore[arg-type]


def masked(weight: float) -> Terms:
    """Pure noise in place of the whole history, under the prompt in force."""
    return whole(weight, level=1.0, recommitted=True)


def cut(  # noqa: PLR0913
    weight: float,
    newest: int,
    oldest: int,
    *,
    exact: bool,
    level: float = 0.0,
    own: Tensor | None = None,
) -> Terms:
    """Some ages, the rest being there for the history's own pass unless the view is exact."""

    def terms(first: int) -> list[Term]:
        visible = range(max(first - oldest, 0), max(first - newest + 1, 0))
        kept = () if exact else range(first)
        the_cache_itself = len(visible) == first and not level
        recommitted = exact and not the_cache_itself
        return [Term(weight, visible, kept, level, recommitted=recommitted, own=own)]

    return terms


def scene(weight: float) -> Terms:
    """The first chunk alone."""
    return lambda first: [Term(weight, range(min(first, CHUNK)), recommitted=True)]


def both(*parts: Terms) -> Terms:
    """Sums of terms."""
    return lambda first: [term for part in parts for term in part(first)]


def stable(terms: Terms, level: float) -> Terms:
    """What was made is seen at a level, where it is not noisier already."""
    return lambda first: [dataclasses.replace(term, stable=level) for term in terms(first)]


def windowed(terms: Terms, window: int) -> Terms:
    """Of the newest frames alone, whose keys remember older ones unless they are made anew."""

    def within(first: int, term: Term) -> Term:
        visible = [frame for frame in term.visible if frame >= first - window]
        if term.recommitted:
            return dataclasses.replace(term, visible=visible)
        return dataclasses.replace(term, visible=visible, kept=range(first), window=window)

    return lambda first: [within(first, term) for term in terms(first)]


NEGATIVE = {"negative": True, "history_negative": True}
RAIN, SNOW = OwnPrompt(embedding(98), "rain"), OwnPrompt(embedding(99, words=4))
CASES: dict[str, tuple[Guidance, Terms]] = {
    "cfg": (cfg(2.0), both(whole(2.0), whole(-1.0, **NEGATIVE))),
    "vanilla, noise": (vanilla(1.5), both(whole(1.5), masked(-0.5))),
    "vanilla, drop": (vanilla(1.5, DROP), both(whole(1.5), lambda _: [Term(-0.5, (), blind=True)])),
    "vanilla, text dropped too": (
        vanilla(1.5, DROP, drop_prompt=True),
        both(whole(1.5), lambda _: [Term(-0.5, (), negative=True, blind=True)]),
    ),
    "temporal, exact": (
        temporal(0.5, last(4, exact=True)),
        both(whole(0.5), cut(0.5, 1, 4, exact=True)),
    ),
    "temporal, cut": (temporal(0.4, last(4)), both(whole(0.6), cut(0.4, 1, 4, exact=False))),
    "temporal with none": (
        temporal(0.5, last(3, exact=True), scale=2.0),
        both(whole(1.0), cut(1.0, 1, 3, exact=True), masked(-1.0)),
    ),
    "a range with a gap, exact": (
        temporal(0.5, View(AgeRange(3, 6), exact=True)),
        both(whole(0.5), cut(0.5, 3, 6, exact=True)),
    ),
    "a range with a gap, cut": (
        temporal(0.5, View(AgeRange(3, 6))),
        both(whole(0.5), cut(0.5, 3, 6, exact=False)),
    ),
    "fractional": (
        fractional(1.5, 0.6),
        both(whole(1.0), whole(0.5, level=0.6), masked(-0.5)),
    ),
    "two levels": (
        extend(fractional(1.5, 0.6, DROP), fractional(1.5, 0.3, DROP)),
        both(
            whole(1.0),
            whole(0.5, level=0.6),
            whole(0.5, level=0.3),
            lambda _: [Term(-1.0, (), blind=True)],
        ),
    ),
    "cfg and vanilla": (
        extend(cfg(2.0), vanilla(1.5)),
        both(whole(2.5), whole(-1.0, **NEGATIVE), masked(-0.5)),
    ),
    "a prompt on top": (
        extend(cfg(2.0), Guidance((Branch(0.5), Branch(0.5, RAIN)))),
        both(whole(1.5), whole(-1.0, **NEGATIVE), whole(0.5, own=RAIN.embedding)),
    ),
    "own prompts of several views": (
        Guidance(
            (Branch(0.6), Branch(0.7, RAIN), Branch(0.5, SNOW, last(4)), Branch(-0.8, RAIN, DROP))
        ),
        both(
            whole(0.6),
            whole(0.7, own=RAIN.embedding),
            cut(0.5, 1, 4, exact=False, own=SNOW.embedding),
            lambda _: [Term(-0.8, (), own=RAIN.embedding, blind=True)],
        ),
    ),
    "three branches, text-free history": (
        dataclasses.replace(magi(1.5, 3.0), timing=cfg(1.0).timing),
        both(
            lambda _: [Term(-0.5, (), negative=True, blind=True)],
            whole(-1.5, **NEGATIVE),
            whole(3.0, history_negative=True),
        ),
    ),
    "a range at a level": (
        temporal(0.5, View(AgeRange(2, 5), level=0.6)),
        both(whole(0.5), cut(0.5, 2, 5, exact=False, level=0.6)),
    ),
    "a range at a level, exact": (
        temporal(0.5, View(AgeRange(1, 4), level=0.6, exact=True)),
        both(whole(0.5), cut(0.5, 1, 4, exact=True, level=0.6)),
    ),
    "vanilla with text, noise": (
        vanilla(1.5, drop_prompt=True),
        both(whole(1.5), whole(-0.5, level=1.0, recommitted=True, **NEGATIVE)),
    ),
    "stabilised fractional and text": (
        stabilise(extend(cfg(2.0), fractional(1.5, 0.6)), 0.1),
        stable(both(whole(2.0), whole(-1.0, **NEGATIVE), whole(0.5, level=0.6), masked(-0.5)), 0.1),
    ),
    "stabilised, exact": (
        stabilise(temporal(0.5, last(4, exact=True)), 0.1),
        stable(both(whole(0.5), cut(0.5, 1, 4, exact=True)), 0.1),
    ),
    "stabilised, cut": (
        stabilise(temporal(0.5, last(4)), 0.1),
        stable(both(whole(0.5), cut(0.5, 1, 4, exact=False)), 0.1),
    ),
}
