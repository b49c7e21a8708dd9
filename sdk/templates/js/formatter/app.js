// Writes a seccomp policy as lines of text.

import { log } from "gadget:framework/log@0.1.0";

import { logged, parameters } from "./contract.js";

/** What the module says of itself. */
export const module = {
  describe() {
    return {
      name: "my-module",
      version: "0.1.0",
      summary: "A seccomp policy as lines of text.",
      params: [
        {
          name: "one-line",
          help: "Write the names of a rule on one line.",
          kind: { tag: "boolean" },
          default: { tag: "boolean", val: false },
        },
      ],
      capabilities: [],
    };
  },
};

/** What the module does. */
export const formatter = {
  format: logged((policy, about, object) => {
    if (object) {
      throw { tag: "unsupported", val: `lines of text are no ${object.kind}` };
    }
    const oneLine = parameters()["one-line"];
    const lines = [`default ${action(policy.defaultAction)}`, `architectures ${policy.architectures.join(" ")}`];
    for (const rule of policy.rules) {
      // What the format cannot say is an error: left out, it would be another policy.
      if (rule.args.length > 0) {
        const names = rule.names.join(", ");
        throw { tag: "unsupported", val: `lines cannot say with which arguments ${names} is called` };
      }
      for (const names of oneLine ? [rule.names.join(" ")] : rule.names) {
        lines.push(`${action(rule.action)} ${names}`);
      }
    }
    const names = policy.rules.flatMap((rule) => rule.names).length;
    log("debug", "written", [{ name: "names", value: `${names}` }]);
    return { mediaType: "text/plain", body: `${lines.join("\n")}\n` };
  }),
};

/** What happens to a call, as a word: `allow`, `errno=38`. */
function action({ tag, val }) {
  return val == null ? tag : `${tag}=${val}`;
}
