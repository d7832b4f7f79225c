import assert from "node:assert/strict";
import { test } from "node:test";
import { format, isEqual, isObject, type Json, type JsonObject } from "../../src/api/json.ts";
import { mergePatch } from "../../src/form/changes.ts";
import {
  applyEdits,
  arrange,
  type Edits,
  formatEdits,
  NO_EDITS,
  parseEdits,
  setOpenValue,
  setTyped,
  setValue,
  toMergePatch,
  undo,
} from "../../src/form/edits.ts";
import { child, find, isWithin, put, tokens } from "../../src/form/pointer.ts";
import { readSchema } from "../../src/form/schema.ts";

const NAMES = ["a", "b/c", "", "~", "password"];
const schema = readSchema({});

function generator(start: number) {
  let seed = start;
  return (below: number) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return Math.floor((seed / 2147483648) * below);
  };
}

type Random = ReturnType<typeof generator>;

function draw(random: Random, depth = 0): Json {
  const kind = random(depth > 2 ? 2 : 4);
  if (kind === 0) return random(4);
  if (kind === 1) return ["", "x", "***"][random(3)] ?? "";
  if (kind === 2) return Array.from({ length: random(4) }, () => draw(random, depth + 1));
  return object(random, depth);
}

function object(random: Random, depth = 0): JsonObject {
  const members = Array.from({ length: random(4) }, () => [NAMES[random(NAMES.length)] ?? "", draw(random, depth + 1)]);
  return Object.fromEntries(members);
}

/** Return the pointers of everything in a value. */
function places(value: Json | undefined, pointer = ""): string[] {
  if (typeof value !== "object" || value === null) return [pointer];
  const entries = Object.entries(value) as [string, Json][];
  return [pointer, ...entries.flatMap(([name, inner]) => places(inner, child(pointer, name)))];
}

/** Whether a place lies in an array. */
function inArray(value: Json, pointer: string): boolean {
  return tokens(pointer).some((_, depth, path) => Array.isArray(find(value, pointerOf(path.slice(0, depth)))));
}

function pointerOf(path: readonly string[]): string {
  return path.reduce(child, "");
}

test("after any sequence of changes the patch yields what is shown, and undoing everything leaves nothing", () => {
  for (let round = 1; round <= 150; round++) {
    const random = generator(round);
    const config = { root: object(random) };
    let edits: Edits = NO_EDITS;
    let expected: JsonObject = config;
    for (let turn = 0; turn < 12; turn++) {
      const all = places(expected).filter((pointer) => pointer !== "" && pointer !== "/root");
      const chosen = all[random(all.length)] ?? "/root/new";
      const place = random(4) === 0 && isObject(find(expected, chosen)) ? child(chosen, "new") : chosen;
      const action = random(4);
      const items = find(expected, place);
      if (action === 0 && !inArray(expected, place)) {
        edits = setValue(config, edits, place, undefined);
        expected = put(expected, tokens(place), undefined) as JsonObject;
      } else if (action === 1 && Array.isArray(items)) {
        const value = draw(random);
        const backwards = [...items.keys()].toReversed();
        edits = arrange(config, edits, place, backwards);
        edits = arrange(config, edits, place, [{ value }, ...items.keys()]);
        expected = put(expected, tokens(place), [value, ...items.toReversed()]) as JsonObject;
      } else {
        const value = draw(random);
        edits = setValue(config, edits, place, value);
        expected = put(expected, tokens(place), value) as JsonObject;
      }
      const told = `${format(config)} ${formatEdits(edits)}, round ${round}, turn ${turn}`;
      assert.ok(isEqual(applyEdits(config, edits), expected), told);
      assert.ok(isEqual(mergePatch(config, toMergePatch(config, edits)), expected), told);
      assert.ok(isEqual(applyEdits(config, parseEdits(formatEdits(edits))), expected), told);
      for (const [edited] of edits) {
        // An edit inside another one would be applied after it, whatever was changed last.
        assert.ok(![...edits.keys()].some((other) => other !== edited && isWithin(other, edited)), told);
      }
    }
    for (const [pointer] of edits) edits = undo(config, edits, pointer);
    assert.equal(edits.size, 0);
  }
});

test("a place that is undone is as it was, whatever else was changed", () => {
  for (let round = 1; round <= 150; round++) {
    const random = generator(1000 + round);
    const config = { root: object(random) };
    let edits: Edits = NO_EDITS;
    for (let turn = 0; turn < 6; turn++) {
      const all = places(applyEdits(config, edits)).filter((pointer) => pointer !== "");
      edits = setValue(config, edits, all[random(all.length)] ?? "/root", random(3) === 0 ? undefined : draw(random));
    }
    const before = places(config);
    const place = before[random(before.length)] ?? "";
    if (place === "" || inArray(config, place) || inArray(applyEdits(config, edits), place)) continue;
    const undone = undo(config, edits, place);
    assert.ok(isEqual(find(applyEdits(config, undone), place), find(config, place)), `${place} ${formatEdits(edits)}`);
  }
});

test("whatever is typed at the place of a secret is in no draft", () => {
  for (let round = 1; round <= 150; round++) {
    const random = generator(5000 + round);
    const config = { root: object(random) };
    let edits: Edits = NO_EDITS;
    for (let turn = 0; turn < 6; turn++) {
      const all = places(applyEdits(config, edits)).filter((pointer) => pointer !== "");
      const place = all[random(all.length)] ?? "/root";
      const action = random(4);
      if (action === 0 && schema.isSecret(place, ""))
        edits = setTyped(edits, place, { kind: "secret", text: "planted" });
      else if (action === 1) {
        const value = { a: random(2), password: "planted", "b/c": [{ password: "planted" }] };
        edits = setOpenValue(config, edits, place, value, schema);
      } else if (action === 2) edits = setValue(config, edits, place, undefined);
      else edits = undo(config, edits, place);
      assert.ok(!formatEdits(edits).includes("planted"), `round ${round}`);
      assert.ok(!format(applyEdits(config, edits)).includes("planted"), `round ${round}`);
    }
  }
});
