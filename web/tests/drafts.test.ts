import assert from "node:assert/strict";
import { test } from "node:test";
import { LosslessNumber } from "../src/api/json.ts";
import { type Draft, formatDraft, mayHaveSecret, parseDraft } from "../src/edit/drafts.ts";

const DRAFT: Draft = {
  revision: 7,
  epoch: 1,
  time: 1_700_000_000,
  edits: new Map([
    ["/big", { kind: "set", value: new LosslessNumber("9007199254740993") }],
    ["/a~1b", { kind: "remove" }],
    ["/n", { kind: "text", text: "12a", message: "no number" }],
  ]),
  secrets: ["/password"],
  conflicts: [{ pointer: "/n", before: 3, theirs: 4 }],
  text: { format: "yaml", text: "a: [" },
  comment: "why",
};

test("a draft comes back as it was, with what the conflicts were based on", () => {
  const back = parseDraft(formatDraft(DRAFT));
  assert.deepEqual(back, { ...DRAFT, conflicts: [{ pointer: "/n", before: 3, theirs: undefined }] });
});

test("no text of a draft has a secret that was typed", () => {
  const text = formatDraft({ ...DRAFT, edits: new Map([["/password", { kind: "secret", text: "planted-secret" }]]) });
  assert.ok(!text.includes("planted-secret"));
});

test("what is no draft is none", () => {
  for (const text of ["", "{", "[]", "null", '{"revision": "7"}']) assert.equal(parseDraft(text), undefined);
});

test("a text that cannot be read is kept only if no secret stands in it", () => {
  const before = { user: "a", password: "***", settings: { api_key: "***", size: 1 } };
  const safe = [
    '{"user": "b", "password": "***", "settings": {"api_key": "***", "size": }',
    'password: "***"\napi_key: ***\nx: [',
  ];
  for (const text of safe) assert.equal(mayHaveSecret(text, before, []), false, text);
  const unsafe = [
    '{"password": "planted", "api_key": "***", "***": 1,',
    '{"password": "***", "settings": {"api_key": "***"}, "new_token": "planted',
    "password: planted\napi_key: '***'\nx: '***'",
    '{"user": "b"',
    '{"tokens": {"main": "planted"}, "password": "***", "x": "***',
    "password: '***'\napi_key: '***'\ntokens:\n  main: planted\nx: [",
  ];
  for (const text of unsafe) assert.equal(mayHaveSecret(text, before, []), true, text);
});

test("names that a schema makes those of secrets count in such a text", () => {
  const text = '{"pin.a": "planted", "user": "x"';
  assert.equal(mayHaveSecret(text, {}, []), false);
  assert.equal(mayHaveSecret(text, {}, ["pin.a"]), true);
  assert.equal(mayHaveSecret("pin.a:\n  - planted\nx: [", {}, ["pin.a"]), true);
  assert.equal(mayHaveSecret('{"pin.a": "***", "user": ', { "pin.a": "***" }, ["pin.a"]), false);
  assert.equal(mayHaveSecret("{", {}, undefined), true);
});
