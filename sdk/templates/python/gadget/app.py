"""Lists the system calls that each container made."""

from componentize_py_types import Err
from contract import failing_with, logged, parameters, title
from wit_world.exports import gadget, module
from wit_world.imports import log, output, params
from wit_world.imports.captures import Abi, Capture, Phases, Syscall
from wit_world.imports.formatter import Document
from wit_world.imports.log import Field, Level


class Module:
    """What the module says of itself."""

    def describe(self) -> module.Description:
        phase = params.Spec(
            name="phase",
            help="Which part of the container's life is looked at.",
            kind=params.Kind_Choice(["any", "application", "runtime"]),
            default=params.Value_Text("any"),
        )
        return module.Description(
            name="my-module",
            version="0.1.0",
            summary="Lists the system calls of each container.",
            params=[phase],
            capabilities=[],
        )


class Gadget:
    """What the module does."""

    @logged
    def generate(self, reason: gadget.Reason, captures: list[Capture]) -> None:
        wanted = {
            "any": Phases.APPLICATION | Phases.RUNTIME,
            "application": Phases.APPLICATION,
            "runtime": Phases.RUNTIME,
        }[parameters()["phase"]]
        for capture in captures:
            name = title(capture)
            if capture.completeness().losses:
                log.log(Level.WARN, "the recording is incomplete", [Field("container", name)])
            calls = [call for call in capture.syscalls() if call.phases & wanted]
            if not calls:
                raise Err(gadget.Error_Empty(name))
            lines = [f"{name}: {len(calls)} system calls"]
            lines += [f"  {line(call)}" for call in calls]
            with failing_with(gadget.Error_Output):
                output.emit(Document("text/plain", "\n".join(lines) + "\n"), [capture])


def line(call: Syscall) -> str:
    """`read`, `number 1000` where no table knows it, `time (compat)` where it was not made in the machine's own ABI."""
    name = call.name or f"number {call.number}"
    return name if call.abi == Abi.NATIVE else f"{name} ({call.abi.name.lower()})"
