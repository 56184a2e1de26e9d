"""Shows the plan of a rollout at its node before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import BadInput
from ...stream.preview.messages import Plan
from .. import host


def announce(
    node_id: str | None,
    plan: Plan,
    warnings: Sequence[str] = (),
    *,
    from_model: str = "",
    plan_only: bool = False,
) -> None:
    """Show `plan`, and refuse (BadInput) one that does not fit unless it is `plan_only`.

    `from_model` names the settings that come from the model.
    """
    if not plan.fits and not plan_only:
        raise BadInput(plan.text)
    text = f"Plan: {plan.text}" if plan_only else plan.text
    host.show_status(node_id, f"{text} {from_model}".rstrip(), *warnings)
