"""The prompt and the workflow, as the host's own Save nodes write them into files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from comfy.cli_args import args


def workflow_metadata(
    prompt: Mapping[str, Any] | None, canvas: Mapping[str, Any] | None
) -> dict[str, str]:
    """The texts from which the canvas restores a workflow, by key; none with --disable-metadata.

    `prompt` and `canvas` are the hidden inputs PROMPT and EXTRA_PNGINFO of a node.
    """
    if args.disable_metadata:
        return {}
    texts = {} if prompt is None else {"prompt": json.dumps(prompt)}
    return texts | {key: json.dumps(value) for key, value in (canvas or {}).items()}
