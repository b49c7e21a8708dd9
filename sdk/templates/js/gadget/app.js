// Lists the system calls that each container made.

import { log } from "gadget:framework/log@0.1.0";
import { emit } from "gadget:framework/output@0.1.0";

import { failingWith, logged, parameters, title } from "./contract.js";

/** What the module says of itself. */
export const module = {
  describe() {
    return {
      name: "my-module",
      version: "0.1.0",
      summary: "Lists the system calls of each container.",
      params: [
        {
          name: "phase",
          help: "Which part of the container's life is looked at.",
          kind: { tag: "choice", val: ["any", "application", "runtime"] },
          default: { tag: "text", val: "any" },
        },
      ],
      capabilities: [],
    };
  },
};

/** What the module does. */
export const gadget = {
  generate: logged((reason, captures) => {
    const { phase } = parameters();
    for (const capture of captures) {
      const name = title(capture.container());
      if (capture.completeness().losses.length > 0) {
        log("warn", "the recording is incomplete", [{ name: "container", value: name }]);
      }
      const calls = capture.syscalls().filter(({ phases }) => phase === "any" || phases[phase]);
      if (calls.length === 0) {
        throw { tag: "empty", val: name };
      }
      const lines = [`${name}: ${calls.length} system calls`, ...calls.map((call) => `  ${line(call)}`)];
      const document = { mediaType: "text/plain", body: `${lines.join("\n")}\n` };
      failingWith("output", () => emit(document, [capture]));
    }
  }),
};

/** `read`, `number 1000` where no table knows it, `time (compat)` where it was not made in the machine's own ABI. */
function line({ abi, name, number }) {
  const text = name ?? `number ${number}`;
  return abi === "native" ? text : `${text} (${abi})`;
}
