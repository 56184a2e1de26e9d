"""What a node refuses as a workflow is queued, before models are loaded and chunks are made.

The host repeats a sentence at every widget that `validate_inputs` names, so checks name few. It
leaves the limits and choices of these widgets to the node.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from comfy_api.latest import io

from ..errors import BadInput
from . import host
from .widgets import check_widget

Check = Callable[..., object]
"""Raises BadInput for values that it does not take. Its parameters have the names of widgets."""

N = TypeVar("N", bound=type[io.ComfyNode])


def refuses(*checks: Check) -> Callable[[N], N]:
    """Let a node refuse what one of `checks` does, as a workflow is queued.

    What a link gives is not known then: a check of such a widget waits for the run.
    """
    names = list(dict.fromkeys(name for check in checks for name in _widgets_of(check)))

    def validate_inputs(cls: type[io.ComfyNode], **values: Any) -> bool | str:
        """Return True, or the sentence by which a widget or a check refuses a value."""
        try:
            known = _checked(cls, names, values)
            for check in checks:
                own = {name: known[name] for name in _widgets_of(check) if name in known}
                if len(own) == len(_widgets_of(check)):
                    check(**own)
        except BadInput as error:
            return str(error)
        return True

    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD  # the host sees no others
    parameters = [inspect.Parameter(name, positional) for name in ("cls", *names)]
    validate_inputs.__signature__ = inspect.Signature(parameters)

    def add(node: N) -> N:
        node.validate_inputs = classmethod(validate_inputs)
        return node

    return add


def check_name(filename_prefix: str) -> None:
    """Refuse (BadInput) a prefix that names no file in the output folder."""
    host.check_prefix(filename_prefix)


def _widgets_of(check: Check) -> list[str]:
    return list(inspect.signature(check).parameters)


def _checked(
    node: type[io.ComfyNode], names: Iterable[str], values: Mapping[str, Any]
) -> dict[str, Any]:
    """The known values of the named widgets; BadInput for one outside of its limits or choices.

    A link gives None. An optional widget that a workflow leaves out has its default.
    """
    known = {}
    for place in node.define_schema().inputs:
        if place.id not in names:
            continue
        value = values.get(place.id, place.default if place.optional else None)
        if value is not None:
            check_widget(place, value)
            known[place.id] = value
    return known
