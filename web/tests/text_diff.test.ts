import assert from "node:assert/strict";
import { test } from "node:test";
import { diffLines, diffWords, likeness, type Run } from "../src/ui/text_diff.ts";

const side = (runs: Run[], kind: "old" | "new") =>
  runs
    .filter((run) => run.kind === "same" || run.kind === kind)
    .map((run) => run.text)
    .join("");

test("words that differ are runs of their own", () => {
  assert.deepEqual(diffWords("the quick fox", "the slow fox"), [
    { kind: "same", text: "the " },
    { kind: "old", text: "quick" },
    { kind: "new", text: "slow" },
    { kind: "same", text: " fox" },
  ]);
});

test("a line that is added is a run with its line end", () => {
  assert.deepEqual(diffLines("a\nc\n", "a\nb\nc\n"), [
    { kind: "same", text: "a\n" },
    { kind: "new", text: "b\n" },
    { kind: "same", text: "c\n" },
  ]);
});

const PAIRS: [string, string][] = [
  ["", ""],
  ["", "a"],
  ["a", ""],
  ["a", "a"],
  ["abc abc", "xyz"],
  ["a b c d e f", "f e d c b a"],
  ["größe: 1\n", "größe: 2\n\n"],
  ["one\ntwo", "one\ntwo\n"],
];

test("both texts come back from the runs, also those of made-up texts", () => {
  let seed = 7;
  const random = (limit: number) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % limit;
  };
  const made = () => Array.from({ length: random(60) }, () => "ab \nc"[random(5)]).join("");
  const pairs = [...PAIRS, ...Array.from({ length: 300 }, (): [string, string] => [made(), made()])];
  for (const [old, next] of pairs) {
    for (const runs of [diffWords(old, next), diffLines(old, next)]) {
      assert.equal(side(runs, "old"), old);
      assert.equal(side(runs, "new"), next);
    }
  }
});

test("texts that have little in common are shown whole in a short time", () => {
  const old = Array.from({ length: 5000 }, (_, index) => `old ${index}`).join("\n");
  const next = Array.from({ length: 5000 }, (_, index) => `new ${index}`).join("\n");
  const begun = performance.now();
  const runs = diffLines(old, next);
  assert.ok(performance.now() - begun < 500);
  assert.deepEqual(
    runs.map(({ kind }) => kind),
    ["old", "new"],
  );
});

test("the likeness of equal texts is 1, of texts with nothing in common 0", () => {
  assert.equal(likeness(diffWords("a b", "a b")), 1);
  assert.equal(likeness(diffWords("a", "b")), 0);
});
