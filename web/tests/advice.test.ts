import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ALERTS, alertAdvice, DRIFT } from "../src/screens/advice.ts";

/** Return the rows of a page of the documentation that begin with a name in backticks, without its links. */
function rows(page: string): [string, { meaning: string; remedy: string }][] {
  const text = readFileSync(new URL(`../../docs/reference/${page}`, import.meta.url), "utf8");
  return text.split("\n").flatMap((line) => {
    const cells = /^\| (`.*) \| (.*) \| (.*) \|$/.exec(line)?.slice(1);
    const [names = "", meaning = "", remedy = ""] = (cells ?? []).map((cell) =>
      cell.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").trim(),
    );
    return [...names.matchAll(/`([^`]+)`/g)].map(
      ([, name = ""]) => [name, { meaning, remedy }] as [string, { meaning: string; remedy: string }],
    );
  });
}

test("the console says of each alert what the documentation says", () => {
  assert.deepEqual(ALERTS, Object.fromEntries(rows("alerts.md")));
});

test("the console says of each kind of drift what the documentation says", () => {
  const described = Object.fromEntries(rows("drift.md"));
  assert.deepEqual(DRIFT, Object.fromEntries(Object.keys(DRIFT).map((kind) => [kind, described[kind]])));
  assert.deepEqual(Object.keys(DRIFT).sort(), ["file", "instance", "retained", "row"]);
});

const ADVICE: [string, string | undefined][] = [
  ["drift", "drift"],
  ["replica_gone:alice", "replica_gone:<name>"],
  ["store:read", "store:read"],
  ["validation_failed:ignored", "validation_failed:ignored"],
  ["undelivered:voice_router", "undelivered:<service>"],
  ["undelivered:alicia/config/key", "undelivered"],
  ["unheard_of", undefined],
];

for (const [name, row] of ADVICE) {
  test(`the alert ${name} has the advice of ${row}`, () => {
    assert.equal(alertAdvice(name), row === undefined ? undefined : ALERTS[row]);
  });
}
