import assert from "node:assert/strict";
import { test } from "node:test";
import { refusedGroups } from "../src/screens/refused_groups.ts";

const NUMBER = "/limits/*: found a string of 4 characters; expected a number";
const edit = (line: number, service: string | undefined, message = `${service} ${NUMBER}`) => ({
  file: "environments/dev.yaml",
  line,
  message,
  ...(service === undefined ? {} : { service }),
});

test("one line that is wrong for several services is one refused edit", () => {
  const edits = [edit(24, "a"), edit(24, "b"), edit(24, "c"), edit(30, "a"), edit(31, undefined, "is no YAML")];
  assert.deepEqual(
    refusedGroups(edits).map(({ line, message }) => [line, message]),
    [
      [24, `3 services: ${NUMBER}`],
      [30, `a ${NUMBER}`],
      [31, "is no YAML"],
    ],
  );
});

test("what is said of no service is one refused edit, however often", () => {
  assert.deepEqual(refusedGroups([edit(3, undefined, "is no YAML"), edit(3, undefined, "is no YAML")]).length, 1);
});

test("two services that one line is wrong for are named", () => {
  assert.deepEqual(
    refusedGroups([edit(24, "a"), edit(24, "b")]).map(({ message }) => message),
    [`a ${NUMBER}`, `b ${NUMBER}`],
  );
});
