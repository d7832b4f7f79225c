import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { type Edit, type Edits, toMergePatch } from "../../src/form/edits.ts";
import { acceptKey, KeyChanged, sealEdits } from "../../src/form/sealing.ts";

const FIRST = { key_id: "1111111111111111", public_key: btoa("\x07".repeat(32)) };
const OTHER = { key_id: "2222222222222222", public_key: btoa("\x08".repeat(32)) };
const EDITS: Edits = new Map<string, Edit>([
  ["/a", { kind: "set", value: 1 }],
  ["/password", { kind: "secret", text: "planted" }],
]);
const HERE = { service: "bell", environment: "dev" };
const { fetch } = globalThis;

function answer(key: object): void {
  globalThis.fetch = async (address) => {
    assert.equal(String(address), "keys/current");
    return new Response(JSON.stringify({ status: "success", ...key }));
  };
}

afterEach(() => {
  globalThis.fetch = fetch;
});

test("secrets are sealed, other edits stay, and another key is used only after it was accepted", async () => {
  answer(FIRST);
  const sealed = await sealEdits(EDITS, HERE);
  const patch = toMergePatch({}, sealed);
  assert.match(String(patch.password), /^sealed:v1:1111111111111111:[\w-]+$/);
  assert.equal(patch.a, 1);
  assert.ok(!JSON.stringify([...sealed]).includes("planted"));
  answer(OTHER);
  const error = await sealEdits(EDITS, HERE).catch((caught) => caught);
  assert.ok(error instanceof KeyChanged);
  assert.ok(error.message.includes(OTHER.key_id));
  acceptKey(error.key);
  assert.match(String(toMergePatch({}, await sealEdits(EDITS, HERE)).password), /^sealed:v1:2222222222222222:/);
});

test("two boxes of the same secret differ", async () => {
  acceptKey(FIRST);
  answer(FIRST);
  const [one, other] = [await sealEdits(EDITS, HERE), await sealEdits(EDITS, HERE)];
  assert.notDeepEqual(one.get("/password"), other.get("/password"));
});

test("what is sealed already is sent as it is", async () => {
  acceptKey(FIRST);
  answer(FIRST);
  const value = "sealed:v1:3333333333333333:abc_-9";
  const sealed = await sealEdits(new Map<string, Edit>([["/password", { kind: "secret", text: value }]]), HERE);
  assert.deepEqual(sealed.get("/password"), { kind: "set", value });
});
