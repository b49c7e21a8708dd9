// Makes the calls to the cluster that it is told, or misbehaves as it is told.

import { discover, get, list, create, apply } from "gadget:framework/kube@0.1.0";
import { format } from "gadget:framework/formatter@0.1.0";
import { log } from "gadget:framework/log@0.1.0";
import { emit } from "gadget:framework/output@0.1.0";

import { failingWith, logged, parameters } from "./contract.js";

const GROUP = "test.gadgetd";
const PLURAL = "things";

export const module = {
  describe() {
    const misbehaviours = Object.keys(MISBEHAVIOURS);
    return {
      name: "guest",
      version: "1.0.0",
      summary: "Makes the calls that it is told, or misbehaves.",
      params: [
        { name: "calls", help: "VERB NAMESPACE NAME, separated by `;`.", kind: { tag: "text" } },
        { name: "misbehave", help: "How.", kind: { tag: "choice", val: misbehaviours } },
      ],
      capabilities: [{ group: GROUP, plural: PLURAL, verbs: ["get", "list", "create", "apply"] }],
    };
  },
};

export const gadget = {
  generate: logged((reason, captures) => {
    const { calls = "", misbehave } = parameters();
    if (misbehave) MISBEHAVIOURS[misbehave](captures);
    const told = calls.split(";").filter((words) => words);
    emitText(captures, told.map((words) => `${call(...words.trim().split(" "))}\n`).join(""));
  }),
};

/** What came of a call, in a line. */
function call(verb, namespace, name) {
  const where = namespace === "-" ? undefined : namespace;
  const kind = { group: GROUP, version: "v1", plural: PLURAL, name: "Thing", namespaced: where !== undefined };
  const spec = { by: "gadget" };
  const thing = JSON.stringify({ apiVersion: `${GROUP}/v1`, kind: "Thing", metadata: { name }, spec });
  const calls = {
    discover: () => discover(GROUP, PLURAL),
    get: () => get(kind, where, name),
    list: () => list(kind, where, ""),
    create: () => create(kind, where, thing),
    apply: () => apply(kind, where, thing),
  };
  try {
    calls[verb]();
    return "ok";
  } catch ({ payload }) {
    return `${payload.tag.replace("-", " ")}: ${payload.val}`;
  }
}

function forever(act) {
  for (;;) act();
}

function recurse(depth) {
  return recurse(depth + 1) + depth;
}

/** Answers of the contract may be caught; then it goes on. */
function ignored(act) {
  try {
    act();
  } catch {}
}

/** Has the formatter write a policy that allows these. */
function formatPolicy(captures, ...names) {
  const rules = names.map((name) => ({ names: [name], action: { tag: "allow" }, args: [] }));
  return failingWith("format", () => format({ defaultAction: { tag: "errno" }, architectures: ["x86-64"], rules }, captures, undefined));
}

/** Emits this, and fails with what the host answers to it. */
function emitText(captures, body) {
  failingWith("output", () => emit({ mediaType: "text/plain", body }, captures));
}

const hoard = [];

const MISBEHAVIOURS = {
  throws: () => undefined.onPurpose,
  "throws-nothing": () => {
    throw undefined;
  },
  loops: () => forever(() => {}),
  "loops-in-a-regular-expression": () => /^(a+)+$/.test(`${"a".repeat(40)}!`),
  "waits-for-ever": () => forever(() => Promise.resolve()),
  allocates: () => forever(() => hoard.push(new Uint8Array(8 << 20).fill(1))),
  "makes-a-huge-text": () => forever(() => hoard.push("x".repeat(8 << 20) + hoard.length)),
  recurses: () => recurse(0),
  "evaluates-text": () => eval("for (;;) {}"),
  "asks-the-time": () => Date.now(),
  "asks-for-random-numbers": () => crypto.getRandomValues(new Uint8Array(8)),
  prints: () => console.log("x"),
  fetches: () => fetch("http://127.0.0.1/"),
  exits: () => process.exit(0),
  "changes-the-language": (captures) => {
    Array.prototype.map = () => forever(() => {});
    formatPolicy(captures, "read");
  },
  "emits-a-huge-document": (captures) => emitText(captures, "x".repeat(3 << 19)),
  "emits-an-absurd-document": (captures) => emitText(captures, "x".repeat(3 << 20)),
  "emits-escapes": (captures) => emitText(captures, "\x1b[2J"),
  "emits-surrogates": (captures) => emitText(captures, "\ud800"),
  "emits-a-number": (captures) => emitText(captures, 4711),
  "emits-what-throws": (captures) =>
    emit({ mediaType: "text/plain", get body() { throw new Error("on purpose"); } }, captures),
  "emits-about-what-is-no-capture": () => emitText([{}], "x"),
  "lets-an-answer-pass": (captures) => emit({ mediaType: "text/plain", body: "\x1b[2J" }, captures),
  "needs-the-cluster": () => failingWith("kube", () => discover(GROUP, PLURAL)),
  "floods-the-log": () => forever(() => log("info", "x".repeat(100), [])),
  "logs-at-no-level": () => log("loudest", "x", []),
  "floods-the-cluster": () => forever(() => ignored(() => discover(GROUP, PLURAL))),
  "fails-with-a-number": () => {
    throw { tag: "other", val: 4711 };
  },
  "fails-with-an-unknown-error": () => {
    throw { tag: "bored", val: "x" };
  },
  "makes-an-empty-policy": (captures) => formatPolicy(captures),
  "makes-a-policy-of-rubbish": (captures) => formatPolicy(captures, "rm -rf /"),
};
