"""Writes a seccomp policy as lines of text."""

from componentize_py_types import Err
from contract import logged, parameters
from wit_world.exports import formatter, module
from wit_world.imports import log, params, policy
from wit_world.imports.captures import Capture
from wit_world.imports.log import Field, Level


class Module:
    """What the module says of itself."""

    def describe(self) -> module.Description:
        one_line = params.Spec(
            name="one-line",
            help="Write the names of a rule on one line.",
            kind=params.Kind_Boolean(),
            default=params.Value_Boolean(False),
        )
        return module.Description(
            name="my-module",
            version="0.1.0",
            summary="A seccomp policy as lines of text.",
            params=[one_line],
            capabilities=[],
        )


class Formatter:
    """What the module does."""

    @logged
    def format(
        self, policy: policy.Policy, about: list[Capture], object: formatter.ObjectHead | None
    ) -> formatter.Document:
        if object:
            raise Err(formatter.Error_Unsupported(f"lines of text are no {object.kind}"))
        lines = [
            f"default {action(policy.default_action)}",
            f"architectures {' '.join(word(architecture) for architecture in policy.architectures)}",
        ]
        for rule in policy.rules:
            # What the format cannot say is an error: left out, it would be another policy.
            if rule.args:
                names = ", ".join(rule.names)
                raise Err(formatter.Error_Unsupported(f"lines cannot say with which arguments {names} is called"))
            if parameters()["one-line"]:
                lines.append(f"{action(rule.action)} {' '.join(rule.names)}")
            else:
                lines += [f"{action(rule.action)} {name}" for name in rule.names]
        log.log(Level.DEBUG, "written", [Field("names", str(sum(len(rule.names) for rule in policy.rules)))])
        return formatter.Document("text/plain", "\n".join(lines) + "\n")


def action(action: policy.Action) -> str:
    """What happens to a call, as a word."""
    match action:
        case policy.Action_Allow():
            return "allow"
        case policy.Action_Errno(None):
            return "errno"
        case policy.Action_Errno(errno):
            return f"errno={errno}"
        case policy.Action_KillProcess():
            return "kill-process"
        case policy.Action_KillThread():
            return "kill-thread"
        case policy.Action_Trap():
            return "trap"
        case policy.Action_Log():
            return "log"
        case policy.Action_Trace(None):
            return "trace"
        case policy.Action_Trace(message):
            return f"trace={message}"
        case policy.Action_Notify():
            return "notify"


def word(architecture: policy.Architecture) -> str:
    """`x86-64` and the like."""
    return architecture.name.lower().replace("_", "-")
