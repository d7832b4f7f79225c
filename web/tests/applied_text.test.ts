import assert from "node:assert/strict";
import { test } from "node:test";
import { appliedText } from "../src/edit/applied_text.ts";

const write = { revision: 4, newest: 4, environment: "dev", active: "dev", waits: false };

test("a write is in force only while nothing newer is, and in the active environment", () => {
  assert.equal(appliedText(write), "Revision 4 is in force.");
  assert.equal(appliedText({ ...write, newest: 6 }), "Revision 4 was applied; revision 6 is the newest now.");
  assert.equal(
    appliedText({ ...write, active: "prod" }),
    "Revision 4 is saved; services get it when dev is activated.",
  );
  assert.equal(appliedText({ ...write, active: undefined }), "Revision 4 is in force.");
});

test("a write that the broker does not have yet is not said to be in force", () => {
  assert.equal(
    appliedText({ ...write, waits: true }),
    "Revision 4 is saved, and will be published when the broker is back.",
  );
  assert.match(appliedText({ ...write, waits: true, newest: 5 }), /was applied/);
});
