"""A node's progress bar, its status text and its log lines."""

from __future__ import annotations

import logging

import comfy.model_management
import comfy.utils
from comfy_execution.graph_utils import ExecutionBlocker
from comfy_execution.progress import get_progress_state
from server import PromptServer

logger = logging.getLogger("longtake")


class Progress:
    """The progress bar of one node; every advance checks for an interrupt and may raise.

    A total of 0 means unknown: the bar never fills.
    """

    def __init__(self, node_id: str, total: int) -> None:
        self.node_id = node_id
        self.total = total
        self._bar = comfy.utils.ProgressBar(total, node_id=node_id)

    def advance(self, done: int) -> None:
        """Show `done` of the total."""
        self._bar.update_absolute(done, self.total or done + 1)

    def finish(self) -> None:
        """Mark the node as done again; its work may run after the node itself has returned."""
        get_progress_state().finish_progress(self.node_id)


def check_interrupted() -> None:
    """Raise the host's interrupt exception if the user pressed Cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def set_interrupt(interrupted: bool) -> None:
    """Make the next check raise, on whatever thread, or prevent that."""
    comfy.model_management.interrupt_current_processing(interrupted)


def running_prompt() -> object:
    """An object that stands for the running prompt, or for the last one; a new one per prompt."""
    return get_progress_state()


def nothing_to_give(message: str | None = None) -> object:
    """Return the value of an empty output: connected nodes do not run, or fail with `message`."""
    return ExecutionBlocker(message)


def show_status(node_id: str | None, text: str, *warnings: str) -> None:
    """Write `text`, and `warnings` above it, to the log and under the node.

    The next status of the node takes its place. The log has the node's title before it, since two
    nodes may say nearly the same.
    """
    logger.info("%s%s", _title(node_id), text)
    for warning in warnings:
        logger.warning("%s", warning)
    show_text(node_id, "\n".join([*(f"Warning: {warning}" for warning in warnings), text]))


def log(text: str) -> None:
    """Write `text` to the log alone."""
    logger.info("%s", text)


def _title(node_id: str | None) -> str:
    """The title of a node of the running prompt and a colon; empty if it has none."""
    prompt = get_progress_state().dynprompt
    if node_id is None or not prompt.has_node(node_id):
        return ""
    node = prompt.get_node(node_id)
    return f"{node.get('_meta', {}).get('title') or node['class_type']}: "


def warn(node_id: str | None, *warnings: str) -> None:
    """Write warnings to the log, after the node's title, and under the node."""
    for warning in warnings:
        logger.warning("%s%s", _title(node_id), warning)
    show_text(node_id, "\n".join(f"Warning: {warning}" for warning in warnings))


def show_text(node_id: str | None, text: str) -> None:
    """Write `text` under the node, but not to the log."""
    web = PromptServer.instance
    if node_id is not None and web.client_id is not None:
        web.send_progress_text(text, node_id, sid=web.client_id)
