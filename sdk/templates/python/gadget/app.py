"""Lists the system calls that each container made."""

import functools

from componentize_py_types import Err
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


def logged(function):
    """To the host an exception is the module's end, and no more. Say first what it was, in the log."""

    @functools.wraps(function)
    def wrapper(*args):
        try:
            return function(*args)
        except Err:  # An answer of the contract.
            raise
        except Exception as error:
            place = error.__traceback__
            while place.tb_next:
                place = place.tb_next
            where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
            log.log(Level.ERROR, f"{type(error).__name__}: {error}", [Field("at", where)])
            raise

    return wrapper


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
            output.emit(Document("text/plain", "\n".join(lines) + "\n"), [capture])


def parameters() -> dict:
    """The parameters of this run. One that has a default is always there."""
    return {param.name: param.value.value for param in params.all()}


def title(capture: Capture) -> str:
    """The shortest text that tells a person which container is meant."""
    container = capture.container()
    name = container.name or container.id
    pod = container.pod
    return f"{pod.namespace}/{pod.name}/{name}" if pod else name


def line(call: Syscall) -> str:
    """`read`, `number 1000` where no table knows it, `time (compat)` where it was not made in the machine's own ABI."""
    name = call.name or f"number {call.number}"
    return name if call.abi == Abi.NATIVE else f"{name} ({call.abi.name.lower()})"
