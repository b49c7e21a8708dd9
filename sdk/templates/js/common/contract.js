// What every module in JavaScript needs of the contract.

import { log } from "gadget:framework/log@0.1.0";
import { all } from "gadget:framework/params@0.1.0";

/** The parameters of this run. One that has a default is always there. */
export function parameters() {
  return Object.fromEntries(all().map(({ name, value }) => [name, value.val]));
}

/** The shortest text that tells a person which container is meant. */
export function title({ id, name, pod }) {
  return pod ? `${pod.namespace}/${pod.name}/${name ?? id}` : (name ?? id);
}

/**
 * The contract's errors are thrown as `{ tag, val }`. To the host any other is the module's end, and no more: say first
 * what it was, in the log.
 */
export function logged(call) {
  return (...args) => {
    try {
      return call(...args);
    } catch (error) {
      if (error instanceof Error) {
        // An answer of the host that nobody took.
        const what = error.payload ? JSON.stringify(error.payload) : `${error}`;
        log("error", what, [{ name: "at", value: `${error.stack}`.trim().split("\n")[0] }]);
      }
      throw error;
    }
  };
}

/**
 * What the host answers to a call fails the module too, as an error of its own: which one must be said, as in
 * `failingWith("output", () => emit(document, [capture]))`.
 */
export function failingWith(tag, call) {
  try {
    return call();
  } catch (error) {
    throw error.payload ? { tag, val: error.payload } : error;
  }
}
