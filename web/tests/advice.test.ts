import assert from "node:assert/strict";
import { test } from "node:test";
import { alertAdvice } from "../src/screens/advice.ts";
import { ALERTS, DRIFT } from "../src/screens/advice_texts.ts";
import { adviceTexts } from "../write_advice.ts";

test("the console says of each alert and each kind of drift what the documentation says; else run npm run advice", async () => {
  const text = await adviceTexts();
  const [alerts, drift] = [...text.matchAll(/^export const \w+: .* = (.*);$/gm)].map(([, json = ""]) =>
    JSON.parse(json),
  );
  assert.deepEqual(ALERTS, alerts);
  assert.deepEqual(DRIFT, drift);
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
