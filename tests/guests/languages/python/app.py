"""Makes the calls to the cluster that it is told, or misbehaves as it is told."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

from componentize_py_types import Err
from contract import failing_with, logged, parameters
from wit_world.exports import gadget, module
from wit_world.imports import formatter, kube, log, output, params
from wit_world.imports.captures import Capture
from wit_world.imports.formatter import Document
from wit_world.imports.log import Level
from wit_world.imports.policy import Action_Allow, Action_Errno, Architecture, Policy, Rule

GROUP = "test.gadgetd"
PLURAL = "things"


class Module:
    def describe(self) -> module.Description:
        return module.Description(
            name="guest",
            version="1.0.0",
            summary="Makes the calls that it is told, or misbehaves.",
            params=[
                params.Spec("calls", "VERB NAMESPACE NAME, separated by `;`.", params.Kind_Text(), None),
                params.Spec("misbehave", "How.", params.Kind_Choice(list(MISBEHAVIOURS)), None),
            ],
            capabilities=[module.Capability(GROUP, PLURAL, list(module.Verb))],
        )


class Gadget:
    @logged
    def generate(self, reason: gadget.Reason, captures: list[Capture]) -> None:
        told = parameters()
        if "misbehave" in told:
            MISBEHAVIOURS[told["misbehave"]](captures)
        lines = [call(*words.split()) for words in told.get("calls", "").split(";") if words]
        emit("".join(f"{line}\n" for line in lines))(captures)


def call(verb: str, namespace: str, name: str) -> str:
    """What came of a call, in a line."""
    where = None if namespace == "-" else namespace
    kind = kube.Kind(GROUP, "v1", PLURAL, "Thing", where is not None)
    thing = {"apiVersion": f"{GROUP}/v1", "kind": "Thing", "metadata": {"name": name}, "spec": {"by": "gadget"}}
    thing = json.dumps(thing)
    calls = {
        "discover": lambda: kube.discover(GROUP, PLURAL),
        "get": lambda: kube.get(kind, where, name),
        "list": lambda: kube.list(kind, where, ""),
        "create": lambda: kube.create(kind, where, thing),
        "apply": lambda: kube.apply(kind, where, thing),
    }
    try:
        calls[verb]()
        return "ok"
    except Err as error:
        return f"{words(type(error.value).__name__)}: {error.value.value}"


def words(name: str) -> str:
    """`Error_NotFound` is `not found`."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name.removeprefix("Error_")).strip()


def forever(act):
    while True:
        act()


def grow(hoard=[]):
    hoard.append(bytearray(8 << 20))


def recurse(depth=0):
    return recurse(depth + 1) + depth


def deep(captures):
    sys.setrecursionlimit(1 << 30)
    recurse()


def format_policy(*names: str):
    """Has the formatter write a policy that allows these."""
    rules = [Rule([name], Action_Allow(), []) for name in names]
    policy = Policy(Action_Errno(None), [Architecture.X86_64], rules)

    def formatting(captures):
        with failing_with(gadget.Error_Format):
            formatter.format(policy, captures, None)

    return formatting


def fail_with_a_number(captures):
    raise Err(4711)


def emit(body):
    """Emits this, and fails with what the host answers to it."""

    def emitting(captures):
        with failing_with(gadget.Error_Output):
            output.emit(Document("text/plain", body), captures)

    return emitting


def needs_the_cluster(captures):
    with failing_with(gadget.Error_Kube):
        kube.discover(GROUP, PLURAL)


def ignored(act):
    """Answers of the contract may be caught; then it goes on."""

    def ignoring():
        try:
            act()
        except Err:
            pass

    return ignoring


MISBEHAVIOURS = {
    "raises": lambda captures: {}["on purpose"],
    "exits": lambda captures: sys.exit(0),
    "aborts": lambda captures: os.abort(),
    "loops": lambda captures: forever(lambda: None),
    "sleeps": lambda captures: time.sleep(1e9),
    "asks-the-time": lambda captures: time.time(),
    "allocates": lambda captures: forever(grow),
    "recurses": lambda captures: recurse(),
    "recurses-without-limit": deep,
    "reads-a-file": lambda captures: open("/etc/shadow").read(),
    "writes-a-file": lambda captures: open("/tmp/guest", "w").write("x"),
    "prints": lambda captures: print("x", flush=True),
    "reads-the-environment": lambda captures: log.log(Level.WARN, json.dumps(dict(os.environ)), []),
    "connects": lambda captures: socket.create_connection(("127.0.0.1", 80)),
    "starts-a-process": lambda captures: subprocess.run(["/bin/true"]),
    "starts-a-thread": lambda captures: threading.Thread(target=lambda: None).start(),
    "loads-a-library": lambda captures: __import__("ctypes").CDLL("libc.so.6"),
    "emits-a-huge-document": emit("x" * (3 << 19)),
    "emits-an-absurd-document": emit("x" * (3 << 20)),
    "emits-escapes": emit("\x1b[2J"),
    "emits-surrogates": emit("\ud800"),
    "emits-a-number": emit(4711),
    "lets-an-answer-pass": lambda captures: output.emit(Document("text/plain", "\x1b[2J"), captures),
    "needs-the-cluster": needs_the_cluster,
    "floods-the-log": lambda captures: forever(lambda: log.log(Level.INFO, "x" * 100, [])),
    "floods-the-cluster": lambda captures: forever(ignored(lambda: kube.discover(GROUP, PLURAL))),
    "fails-with-a-number": fail_with_a_number,
    "uses-a-capture-after-its-end": lambda captures: (captures[0].__exit__(None, None, None), captures[0].syscalls()),
    "makes-an-empty-policy": format_policy(),
    "makes-a-policy-of-rubbish": format_policy("rm -rf /"),
}
