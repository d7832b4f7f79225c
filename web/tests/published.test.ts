import assert from "node:assert/strict";
import { test } from "node:test";
import type { Health } from "../src/api/queries.ts";
import { waitsForBroker } from "../src/edit/published.ts";

type Applied = Parameters<typeof waitsForBroker>[0];

function health(pending: number, connected = true): Health {
  return { environment: "dev", outbox_pending: pending, mqtt_connected: connected } as Health;
}

function applied(waits = false): Applied {
  return { changes: [], restart: [], how: "edits", waits, revision: 2, before: 1 } as unknown as Applied;
}

test("a change waits until the broker has it, and no longer when the broker leaves after that", () => {
  const before = health(0, false);
  const change = applied(true);
  const said = [before, health(1, false), health(1), health(0), health(1, false)];
  assert.deepEqual(
    said.map((now) => waitsForBroker(change, "dev", now)),
    [true, true, true, false, false],
  );
});

test("a change waits also if the daemon learned later that the broker hangs", () => {
  const before = health(0);
  const change = applied();
  assert.deepEqual(
    [before, health(1), health(1, false), health(0)].map((now) => waitsForBroker(change, "dev", now)),
    [false, false, true, false],
  );
});

test("what others change afterwards, or what is not published at all, does not wait", () => {
  const published = applied();
  assert.deepEqual(
    [health(0), health(0), health(1, false)].map((now) => waitsForBroker(published, "dev", now)),
    [false, false, false],
  );
  const elsewhere = applied();
  assert.deepEqual(
    [health(0), health(1, false)].map((now) => waitsForBroker(elsewhere, "prod", now)),
    [false, false],
  );
});
