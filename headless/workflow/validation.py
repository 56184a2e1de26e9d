"""Check a workflow against the node types of a host; report the first fault in one sentence.

Only the output nodes and their dependencies are checked, as in the host itself. Every sentence
names node, input, value and remedy.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from ...errors import BadInput
from ...model.files.known_files import missing_file
from .graph import Link, Node, Workflow
from .node_spec import InputSpec, NodeSpec

NUMBER = "INT,FLOAT"
ELSEWHERE = re.compile(r"[/\\]|\[(?:input|output|temp)\]$")
"""In the name of a file that is not directly in ComfyUI's folder `input`."""


def check(workflow: Workflow, specs: Mapping[str, NodeSpec], unknown_remedy: str) -> Workflow:
    """Return the workflow with values converted to their input's type, reduced to nodes that run.

    `unknown_remedy` is the remedy for a node type that is not in `specs`.
    """
    for node in workflow.nodes.values():
        if node.class_type not in specs:
            raise BadInput(_unknown_type(node, specs, unknown_remedy))
    order = run_order(workflow, specs)
    checked = {node_id: _check_node(workflow, workflow.nodes[node_id], specs) for node_id in order}
    return workflow.with_nodes(checked)


def run_order(workflow: Workflow, specs: Mapping[str, NodeSpec]) -> list[str]:
    """Return ids of the output nodes and all their dependencies, dependencies first."""
    outputs = [node.id for node in workflow.nodes.values() if specs[node.class_type].is_output]
    if not outputs:
        raise BadInput(
            f"{workflow.name} has no output node, so nothing would run; add one that saves or "
            "shows frames, for example Save Video (Stream)."
        )
    order: list[str] = []
    for node_id in outputs:
        _visit(workflow, node_id, path=[], order=order)
    return order


def _visit(workflow: Workflow, node_id: str, *, path: list[str], order: list[str]) -> None:
    if node_id in order:
        return
    if node_id in path:
        cycle = " -> ".join([*path[path.index(node_id) :], node_id])
        raise BadInput(f"Nodes {cycle} form a cycle; remove one of these links.")
    node = workflow.nodes[node_id]
    for name, link in node.links.items():
        if link.node_id not in workflow.nodes:
            raise BadInput(
                f"{node.heading}, input {name}: links to node {link.node_id}, which is not in the "
                "workflow; connect it to an existing node."
            )
        _visit(workflow, link.node_id, path=[*path, node_id], order=order)
    order.append(node_id)


def _check_node(workflow: Workflow, node: Node, specs: Mapping[str, NodeSpec]) -> Node:
    spec = specs[node.class_type]
    for input_spec in spec.inputs:
        is_needed = input_spec.required and not input_spec.is_free
        if is_needed and input_spec.name not in node.inputs:
            raise BadInput(
                f"{node.heading}: input {input_spec.name} is missing; {_supply(input_spec)}."
            )
    values: dict[str, object] = {}
    for name, value in node.inputs.items():
        known = spec.input(name)
        if known is None:
            values[name] = _check_unlisted(node, name, value, spec)
        elif isinstance(value, Link):
            values[name] = _check_link(workflow, node, known, value, specs)
        else:
            values[name] = convert(
                f"{node.heading}, input {name}", known, value, foreign=spec.foreign
            )
    return replace(node, inputs=values)


def _check_unlisted(node: Node, name: str, value: object, spec: NodeSpec) -> object:
    if not spec.foreign:
        names = [known.name for known in spec.inputs]
        hint = _did_you_mean(name, names)
        raise BadInput(f"{node.heading} has no input {name}{hint}; remove it.")
    return value


def _check_link(
    workflow: Workflow, node: Node, input_spec: InputSpec, link: Link, specs: Mapping[str, NodeSpec]
) -> Link:
    source = workflow.nodes[link.node_id]
    outputs = specs[source.class_type].outputs
    where = f"{node.heading}, input {input_spec.name}"
    if link.slot >= len(outputs):
        raise BadInput(
            f"{where}: links to output {link.slot} of {source.label}, which has {len(outputs)}; "
            "use a lower number."
        )
    output_type = outputs[link.slot]
    if not input_spec.accepts(output_type):
        raise BadInput(
            f"{where}: needs {input_spec.type}, but output {link.slot} of {source.label} is "
            f"{output_type}; connect a {input_spec.type} output."
        )
    return link


def convert(where: str, spec: InputSpec, value: object, *, foreign: bool = False) -> object:
    """Convert `value` to the input's type or raise `BadInput`; text may hold a number."""
    match spec.type:
        case "INT":
            return _in_range(where, spec, _whole(where, value))
        case "FLOAT":
            return _in_range(where, spec, _number(where, value))
        case "INT,FLOAT" | "FLOAT,INT":
            return _in_range(where, spec, _either(where, value))
        case "BOOLEAN":
            return _boolean(where, value)
        case "STRING":
            return _text(where, value)
        case "COMBO":
            return _option(where, spec, value)
    if foreign or spec.type == "*":
        return value
    raise BadInput(f"{where}: must be linked to a {spec.type} output; got the value {value!r}.")


def _whole(where: str, value: object) -> int:
    number = _number(where, value)
    if number != int(number):
        raise BadInput(f"{where}: must be a whole number; got {value!r}.")
    if isinstance(value, str):
        if "e" in value.lower():
            raise BadInput(
                f"{where}: must have all its digits; got {value!r}. A spreadsheet shortens long "
                "numbers: make the column text there, and write them again."
            )
        return int(Decimal(value))  # a float has 53 bits
    return value if isinstance(value, int) else int(number)


def _either(where: str, value: object) -> float:
    """A number with all its digits where it is a whole one, written as such."""
    number = _number(where, value)
    is_float = number % 1 != 0 or (isinstance(value, str) and "e" in value.lower())
    return number if is_float else _whole(where, value)


def _number(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BadInput(f"{where}: must be a number; got {value!r}.")
    try:
        number = float(value)
    except ValueError as error:
        hint = _meant(value)
        raise BadInput(f"{where}: must be a number{hint}; got {_short(value)}.") from error
    except OverflowError as error:
        raise BadInput(f"{where}: {_short(value)} is too large a number.") from error
    if not math.isfinite(number):
        raise BadInput(f"{where}: must be a finite number; got {value!r}.")
    return number


def _meant(text: object) -> str:
    """How to write a number with a comma, or a time, where its text is no number; else nothing."""
    written = str(text).strip()
    if re.fullmatch(r"-?\d+,\d+", written):
        return f", such as {written.replace(',', '.')}"
    if re.fullmatch(r"\d+(:\d+)*(\.\d+)?s?", written):
        seconds = 0.0
        for part in written.rstrip("s").split(":"):
            seconds = 60 * seconds + float(part)
        return f", such as {seconds:.12g}"
    return ""


def _in_range(where: str, spec: InputSpec, number: float) -> float:
    if spec.minimum is not None and number < spec.minimum:
        raise BadInput(f"{where}: must be at least {_plain(spec.minimum)}; got {_plain(number)}.")
    if spec.maximum is not None and number > spec.maximum:
        raise BadInput(f"{where}: must be at most {_plain(spec.maximum)}; got {_plain(number)}.")
    return number


def _plain(number: float) -> str:
    """Return a whole number with all its digits: a seed and its limit may differ in the last."""
    return str(number) if isinstance(number, int) else f"{number:.12g}"


def _boolean(where: str, value: object) -> bool:
    values = {"true": True, "false": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in values:
        return values[value.lower()]
    raise BadInput(f"{where}: must be true or false; got {value!r}.")


def _text(where: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    raise BadInput(f"{where}: must be text; got {value!r}.")


def _option(where: str, spec: InputSpec, value: object) -> object:
    for option in spec.options:
        if value == option or str(value) == str(option):
            return option
    if spec.takes_uploads and ELSEWHERE.search(str(value)):
        return value  # the host looks for the file
    shown = ", ".join(str(option) for option in spec.options[:12]) or "none"
    more = ", ..." if len(spec.options) > 12 else ""
    if spec.folder:
        raise BadInput(f"{where}: {missing_file(value, spec.folder, shown + more)}.")
    raise BadInput(f"{where}: {value!r} is not one of its choices ({shown}{more}).")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _supply(input_spec: InputSpec) -> str:
    if input_spec.is_widget:
        return (
            f"set it (default: {input_spec.default!r})"
            if input_spec.default is not None
            else "set it"
        )
    return f"connect a {input_spec.type} output"


def _unknown_type(node: Node, specs: Mapping[str, NodeSpec], remedy: str) -> str:
    hint = _did_you_mean(node.class_type, list(specs))
    return f"Node {node.id}: {node.class_type!r} is not a known node type{hint}; {remedy}."


def _did_you_mean(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.8)
    return f" (did you mean {near[0]}?)" if near else ""
