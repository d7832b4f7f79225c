import assert from "node:assert/strict";
import { test } from "node:test";
import { RequestError } from "../src/api/client.ts";
import { adviceAbout } from "../src/edit/refusal_advice.ts";

const refused = (code: string, body: Record<string, unknown> = {}) =>
  adviceAbout(new RequestError(code, 412, "refused", [], body));

test("a conflict about what was deleted promises no newer revision", () => {
  assert.match(refused("conflict", { revision: 3 }) ?? "", /newer revision is read/);
  assert.match(refused("conflict") ?? "", /newer revision is read/);
  assert.match(refused("conflict", { revision: 0 }) ?? "", /deleted.*History/);
  assert.equal(refused("another code"), undefined);
});
