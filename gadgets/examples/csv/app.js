// Writes a seccomp policy as a table for a spreadsheet (CSV, RFC 4180): a row for each call, with what happens to it and
// who was seen making it. Calls of many containers can so be sorted, filtered and compared.

import { logged, parameters, title } from "./contract.js";

/** What the module says of itself. */
export const module = {
  describe() {
    return {
      name: "csv",
      version: "0.1.0",
      summary: "A table for a spreadsheet: each call, what happens to it, and who made it.",
      params: [
        {
          name: "separator",
          help: "What stands between two columns.",
          kind: { tag: "choice", val: ["comma", "semicolon", "tab"] },
          default: { tag: "text", val: "comma" },
        },
        {
          name: "header",
          help: "Begin with the names of the columns.",
          kind: { tag: "boolean" },
          default: { tag: "boolean", val: true },
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
      throw { tag: "unsupported", val: `a table is no ${object.kind}` };
    }
    const { separator, header } = parameters();
    const between = { comma: ",", semicolon: ";", tab: "\t" }[separator];
    const calls = about.flatMap(recorded);
    const rows = [...ruled(policy, calls), ...unruled(policy, calls)];
    const table = header ? [["call", "action", "container", "abi", "phases"], ...rows] : rows;
    const body = table.map((row) => row.map((cell) => quoted(cell, between)).join(between)).join("\r\n");
    return { mediaType: "text/csv", body: `${body}\r\n` };
  }),
};

/** The calls of a recording, each with the columns that say who made it, and how. */
function recorded(capture) {
  const container = title(capture.container());
  return capture.syscalls().map(({ name, number, abi, phases }) => ({
    name: name ?? `number ${number}`,
    maker: [container, abi, Object.keys(phases).filter((phase) => phases[phase]).join(" ")],
  }));
}

/** What has a rule: a row for each container that made the call, and one where none did. */
function ruled(policy, calls) {
  return policy.rules.flatMap(({ names, action, args }) => {
    const what = [word(action), ...args.map(condition)].join(" ");
    return names.flatMap((name) => {
      const makers = calls.filter((call) => call.name === name).map(({ maker }) => maker);
      return (makers.length > 0 ? makers : [["", "", ""]]).map((maker) => [name, what, ...maker]);
    });
  });
}

/** What was recorded and has no rule: the default applies. */
function unruled(policy, calls) {
  const names = new Set(policy.rules.flatMap((rule) => rule.names));
  const otherwise = `${word(policy.defaultAction)} (default)`;
  return calls.filter(({ name }) => !names.has(name)).map(({ name, maker }) => [name, otherwise, ...maker]);
}

/** What happens to a call, as a word: `allow`, `errno=38`. */
function word({ tag, val }) {
  return val == null ? tag : `${tag}=${val}`;
}

/** A condition on an argument. */
function condition({ index, op, value, valueTwo }) {
  const signs = {
    "not-equal": "!=",
    less: "<",
    "less-or-equal": "<=",
    equal: "=",
    "greater-or-equal": ">=",
    greater: ">",
  };
  return op === "masked-equal"
    ? `if argument ${index} & ${value} = ${valueTwo}`
    : `if argument ${index} ${signs[op]} ${value}`;
}

/** A cell. A command may be called anything: nothing of it is to end the cell, or to be taken for a formula. */
function quoted(cell, between) {
  const text = /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : cell;
  return /["\r\n]/.test(text) || text.includes(between) ? `"${text.replaceAll('"', '""')}"` : text;
}
