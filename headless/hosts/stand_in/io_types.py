"""`comfy_api.latest.io` as far as this pack uses it: schemas, inputs, outputs, node base class.

Names, arguments and defaults are the core's (0.33), so nodes that load here load there too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar


class FolderType(str, Enum):
    input = "input"
    output = "output"
    temp = "temp"


class ControlAfterGenerate(str, Enum):
    """How a seed widget changes after a run."""

    fixed = "fixed"
    increment = "increment"
    decrement = "decrement"
    randomize = "randomize"


class Hidden(str, Enum):
    """Values that a node may request from the host besides its inputs."""

    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"


@dataclass(frozen=True, slots=True)
class HiddenHolder:
    """The values of `Hidden`, available as `cls.hidden` within `execute`."""

    unique_id: str | None = None
    prompt: dict[str, object] | None = None
    extra_pnginfo: dict[str, object] | None = None
    dynprompt: object = None


@dataclass(kw_only=True)
class Input:
    id: str = field(kw_only=False)
    display_name: str | None = None
    optional: bool = False
    tooltip: str | None = None
    lazy: bool | None = None
    extra_dict: dict[str, object] | None = None
    raw_link: bool | None = None
    advanced: bool | None = None

    io_type: ClassVar[str] = "*"

    def get_io_type(self) -> str:
        return self.io_type


@dataclass(kw_only=True)
class WidgetInput(Input):
    """An input that may hold a value instead of a link."""

    default: Any = None
    socketless: bool | None = None
    force_input: bool | None = None


@dataclass
class Output:
    id: str | None = None
    display_name: str | None = None
    tooltip: str | None = None
    is_output_list: bool = False

    io_type: ClassVar[str] = "*"

    def get_io_type(self) -> str:
        return self.io_type


class Boolean:
    io_type = "BOOLEAN"

    @dataclass(kw_only=True)
    class Input(WidgetInput):
        io_type: ClassVar[str] = "BOOLEAN"
        label_on: str | None = None
        label_off: str | None = None

    class Output(Output):
        io_type: ClassVar[str] = "BOOLEAN"


@dataclass(kw_only=True)
class _NumberInput(WidgetInput):
    min: float | None = None
    max: float | None = None
    step: float | None = None


class Int:
    io_type = "INT"

    @dataclass(kw_only=True)
    class Input(_NumberInput):
        io_type: ClassVar[str] = "INT"
        control_after_generate: bool | ControlAfterGenerate | None = None

    class Output(Output):
        io_type: ClassVar[str] = "INT"


class Float:
    io_type = "FLOAT"

    @dataclass(kw_only=True)
    class Input(_NumberInput):
        io_type: ClassVar[str] = "FLOAT"
        round: float | bool | None = None

    class Output(Output):
        io_type: ClassVar[str] = "FLOAT"


class String:
    io_type = "STRING"

    @dataclass(kw_only=True)
    class Input(WidgetInput):
        io_type: ClassVar[str] = "STRING"
        multiline: bool = False
        placeholder: str | None = None
        dynamic_prompts: bool | None = None

    class Output(Output):
        io_type: ClassVar[str] = "STRING"


class Combo:
    io_type = "COMBO"

    @dataclass(kw_only=True)
    class Input(WidgetInput):
        io_type: ClassVar[str] = "COMBO"
        options: Sequence[str | int] | type[Enum] = field(default=(), kw_only=False)
        control_after_generate: bool | ControlAfterGenerate | None = None

        def __post_init__(self) -> None:
            if isinstance(self.options, type):
                self.options = [member.value for member in self.options]
            if isinstance(self.default, Enum):
                self.default = self.default.value

    class Output(Output):
        io_type: ClassVar[str] = "COMBO"


def Custom(io_type: str) -> Any:  # noqa: N802  (the core's name)
    """Create a socket type: a class with `Input` and `Output`."""
    named = {"io_type": io_type}
    return type(
        io_type,
        (),
        {
            **named,
            "Input": type("Input", (Input,), named),
            "Output": type("Output", (Output,), named),
        },
    )


Image = Custom("IMAGE")
Latent = Custom("LATENT")
Conditioning = Custom("CONDITIONING")
Model = Custom("MODEL")
Clip = Custom("CLIP")
Vae = Custom("VAE")
Video = Custom("VIDEO")
Audio = Custom("AUDIO")
UpscaleModel = Custom("UPSCALE_MODEL")


class MultiType:
    """A socket that accepts several types."""

    @dataclass(kw_only=True)
    class Input(Input):
        types: Sequence[Any] = field(default=(), kw_only=False)

        def get_io_type(self) -> str:
            """Return the types, joined by commas."""
            return ",".join(kind.io_type for kind in self.types)


@dataclass
class Schema:
    """The definition of a node."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    search_aliases: list[str] = field(default_factory=list)
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_dev_only: bool = False
    not_idempotent: bool = False
    essentials_category: str | None = None
    has_intermediate_output: bool = False

    def validate(self) -> None:
        """Reject duplicate ids, as the core does."""
        outputs = [output.id for output in self.outputs if output.id]
        for ids in ([declared.id for declared in self.inputs], outputs):
            if len(set(ids)) != len(ids):
                raise ValueError(f"schema {self.node_id}: ids must be unique, got {ids}")


class NodeOutput:
    """The result of `execute`: output values, and `ui` for the browser."""

    def __init__(self, *args: Any, ui: Any = None, block_execution: str | None = None) -> None:
        self.args = args
        self.ui = ui
        self.block_execution = block_execution

    @property
    def result(self) -> tuple[Any, ...] | None:
        return self.args or None


class ComfyNode:
    """Base class of every node; has class methods only."""

    hidden: HiddenHolder = HiddenHolder()

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError

    @classmethod
    def execute(cls, *args: Any, **kwargs: Any) -> NodeOutput | Awaitable[NodeOutput]:
        raise NotImplementedError

    @classmethod
    def GET_SCHEMA(cls) -> Schema:  # noqa: N802  (the core's name)
        """Return the validated definition."""
        schema = cls.define_schema()
        schema.validate()
        return schema
