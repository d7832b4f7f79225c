import assert from "node:assert/strict";
import { test } from "node:test";
import type { JsonObject } from "../src/api/json.ts";
import { mergeChanges, reversed } from "../src/edit/conflicts.ts";
import type { Edit, Edits } from "../src/form/edits.ts";

const edits = (all: Record<string, Edit>): Edits => new Map(Object.entries(all));
const BEFORE: JsonObject = { version: "1.0.0", a: 1, b: { c: "x", d: [1, 2] }, password: "***" };

test("places that others changed and the edits do not touch are theirs", () => {
  const after = { ...BEFORE, version: "1.0.1", a: 2 };
  const merged = mergeChanges(BEFORE, after, edits({ "/b/c": { kind: "set", value: "y" } }));
  assert.deepEqual(merged.conflicts, []);
  assert.deepEqual([...merged.edits.keys()], ["/b/c"]);
  assert.deepEqual(merged.taken, [{ pointer: "/a", old: 1, new: 2 }]);
});

test("a place that both changed is a conflict with the value of each side", () => {
  const after = { ...BEFORE, b: { c: "z", d: [1, 2] } };
  const merged = mergeChanges(BEFORE, after, edits({ "/b/c": { kind: "set", value: "y" } }));
  assert.deepEqual(merged.conflicts, [{ pointer: "/b/c", before: "x", theirs: "z" }]);
  assert.equal(merged.edits.size, 1);
});

test("an edit of what contains a changed place, or is in it, is a conflict", () => {
  const after = { ...BEFORE, b: { c: "x", d: [1, 3] } };
  const around = mergeChanges(BEFORE, after, edits({ "/b": { kind: "remove" } }));
  assert.deepEqual(
    around.conflicts.map(({ pointer }) => pointer),
    ["/b"],
  );
  const inside = mergeChanges(BEFORE, after, edits({ "/b/d/0": { kind: "secret", text: "s" } }));
  assert.deepEqual(
    inside.conflicts.map(({ pointer }) => pointer),
    ["/b/d/0"],
  );
});

test("what others did in the same way is no edit any more", () => {
  const after: JsonObject = { version: "1.0.1", a: 7, password: "***" };
  const merged = mergeChanges(BEFORE, after, edits({ "/a": { kind: "set", value: 7 }, "/b": { kind: "remove" } }));
  assert.equal(merged.edits.size, 0);
  assert.deepEqual(merged.conflicts, []);
});

test("a secret that others changed looks the same, and is a conflict by the history", () => {
  const mine = edits({ "/password": { kind: "secret", text: "s3cret" } });
  assert.deepEqual(mergeChanges(BEFORE, BEFORE, mine).conflicts, []);
  const merged = mergeChanges(BEFORE, BEFORE, mine, ["/password"]);
  assert.deepEqual(merged.conflicts, [{ pointer: "/password", before: "***", theirs: "***" }]);
  assert.deepEqual(merged.taken, [{ pointer: "/password" }]);
});

test("without the configuration that it was based on, each edit that differs waits for a decision", () => {
  const mine = edits({ "/a": { kind: "set", value: 1 }, "/b/c": { kind: "set", value: "y" } });
  const merged = mergeChanges(undefined, BEFORE, mine);
  assert.deepEqual(merged.conflicts, [{ pointer: "/b/c", before: undefined, theirs: "x" }]);
  assert.deepEqual([...merged.edits.keys()], ["/b/c"]);
});

test("a conflict that is not decided outlives a further revision, with the first value and the newest one", () => {
  const mine = edits({ "/a": { kind: "set", value: 5 } });
  const second = { ...BEFORE, a: 2 };
  const first = mergeChanges(BEFORE, second, mine).conflicts;
  const third = { ...second, b: {} };
  assert.deepEqual(mergeChanges(second, third, mine, [], first).conflicts, [{ pointer: "/a", before: 1, theirs: 2 }]);
});

test("former values are written back, except for secrets", () => {
  const back = reversed([
    { pointer: "/a", old: 1, new: 2 },
    { pointer: "/n", new: true },
    { pointer: "/gone", old: "x" },
    { pointer: "/password", old: "***", new: "***" },
  ]);
  assert.deepEqual(
    [...back],
    [
      ["/a", { kind: "set", value: 1 }],
      ["/n", { kind: "remove" }],
      ["/gone", { kind: "set", value: "x" }],
    ],
  );
});
