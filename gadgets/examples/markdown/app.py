"""Writes a seccomp policy as a report in Markdown, for a merge request or a wiki.

It says what a reviewer asks: what is allowed that was never seen, what was seen and is refused, what only the start of
the container needs, and how far the recording can be trusted.
"""

import re
from enum import Enum

from componentize_py_types import Err
from contract import logged, parameters, title
from wit_world.exports import formatter, module
from wit_world.imports import params, policy
from wit_world.imports.captures import Capture, Phases

# What lets a call through.
ALLOWING = (policy.Action_Allow, policy.Action_Log)


class Module:
    """What the module says of itself."""

    def describe(self) -> module.Description:
        level = params.Spec(
            name="heading",
            help="The level of the first heading, 1 to 5.",
            kind=params.Kind_Integer(),
            default=params.Value_Integer(2),
        )
        return module.Description(
            name="markdown",
            version="0.1.0",
            summary="A report in Markdown: what is allowed, by whom it is needed, and what is in doubt.",
            params=[level],
            capabilities=[],
        )


class Formatter:
    """What the module does."""

    @logged
    def format(
        self, policy: policy.Policy, about: list[Capture], object: formatter.ObjectHead | None
    ) -> formatter.Document:
        if object:
            raise Err(formatter.Error_Unsupported(f"a report is no {object.kind}"))
        level = parameters()["heading"]
        if not 1 <= level <= 5:
            raise Err(formatter.Error_InvalidParameter(f"heading: there is no heading of level {level}"))
        heading = "#" * level
        lines = [f"{heading} System calls of {', '.join(text(title(capture)) for capture in about)}", ""]
        for capture in about:
            lines += origin(capture)
        lines += [
            f"- Any other call: **{action(policy.default_action)}**",
            f"- Architectures: {', '.join(kebab(architecture) for architecture in policy.architectures)}",
            "",
        ]
        for name, why, calls in sections(policy, about):
            if calls:
                names = ", ".join(f"`{call}`" for call in sorted(calls))
                lines += [f"{heading}# {name} ({len(calls)})", "", why, "", names, ""]
        lines += conditions(policy, heading)
        return formatter.Document("text/markdown", "\n".join(lines))


def sections(policy: policy.Policy, about: list[Capture]) -> list[tuple[str, str, list[str]]]:
    """What a reviewer asks, with the answers: a heading, an explanation, calls."""
    seen = phases_by_name(about)
    allowed = {name for rule in policy.rules if isinstance(rule.action, ALLOWING) for name in rule.names}
    return [
        (
            "Used by the application",
            "Without these calls it stops working.",
            [name for name in allowed if name in seen and Phases.APPLICATION in seen[name]],
        ),
        (
            "Used to start the container, and no more",
            "The OCI runtime makes them under the filter, before the application begins.",
            [name for name in allowed if seen.get(name) == Phases.RUNTIME],
        ),
        (
            "Allowed, and never seen",
            "Somebody added them: look here first.",
            [name for name in allowed if name not in seen],
        ),
        (
            "Seen, and not allowed",
            "The container made these calls while it was recorded.",
            [name for name in seen if name not in allowed],
        ),
    ]


def phases_by_name(about: list[Capture]) -> dict[str, Phases]:
    """In which phases all the recordings have each call. One that no table knows has only a number."""
    phases: dict[str, Phases] = {}
    for capture in about:
        for call in capture.syscalls():
            name = call.name or f"number {call.number} ({kebab(call.abi)})"
            phases[name] = phases.get(name, Phases(0)) | call.phases
    return phases


def origin(capture: Capture) -> list[str]:
    """Where a recording comes from, and what it is worth."""
    container = capture.container()
    lines = []
    if container.image:
        digest = f" ({text(container.image_digest)})" if container.image_digest else ""
        lines.append(f"- Image: {text(container.image)}{digest}")
    completeness = capture.completeness()
    if not completeness.from_start:
        lines.append("- Recorded while it ran: calls of its start may be missing")
    for loss in completeness.losses:
        kind = type(loss).__name__.removeprefix("Loss_")
        words = re.sub("(?<!^)([A-Z])", r" \1", kind).lower()
        lines.append(f"- **Incomplete**: {words}, {loss.value} times")
    return lines


def conditions(policy: policy.Policy, heading: str) -> list[str]:
    """The rules that say more than that calls are allowed."""
    lines = []
    for rule in policy.rules:
        if rule.args or not isinstance(rule.action, ALLOWING):
            names = ", ".join(f"`{name}`" for name in rule.names)
            tests = " and ".join(condition(argument) for argument in rule.args)
            lines.append(f"- {names}: {action(rule.action)}" + (f" if {tests}" if tests else ""))
    return [f"{heading}# Rules of their own", "", *lines, ""] if lines else []


def condition(argument: policy.Argument) -> str:
    """A condition on an argument, as in C."""
    if argument.op == policy.Comparison.MASKED_EQUAL:
        return f"`arg{argument.index} & {argument.value:#x} == {argument.value_two:#x}`"
    sign = {
        policy.Comparison.NOT_EQUAL: "!=",
        policy.Comparison.LESS: "<",
        policy.Comparison.LESS_OR_EQUAL: "<=",
        policy.Comparison.EQUAL: "==",
        policy.Comparison.GREATER_OR_EQUAL: ">=",
        policy.Comparison.GREATER: ">",
    }[argument.op]
    return f"`arg{argument.index} {sign} {argument.value}`"


def action(action: policy.Action) -> str:
    """What happens to a call: `Action_KillProcess` is `kill process`."""
    if isinstance(action, policy.Action_Errno):
        return "refused" if action.value is None else f"refused with errno {action.value}"
    words = re.sub("(?<!^)([A-Z])", r" \1", type(action).__name__.removeprefix("Action_")).lower()
    value = getattr(action, "value", None)
    return words if value is None else f"{words} {value}"


def kebab(case: Enum) -> str:
    """`X86_64` is `x86-64`."""
    return case.name.lower().replace("_", "-")


def text(outside: str) -> str:
    """An image or a command may be called anything: nothing of it is to be markup."""
    printable = "".join(c if c.isprintable() else "?" for c in outside)
    return re.sub(r"([\\`*_{}\[\]<>|&~])", r"\\\1", printable)
