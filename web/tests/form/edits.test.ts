import assert from "node:assert/strict";
import { test } from "node:test";
import { format, isEqual, type Json, type JsonObject, parse } from "../../src/api/json.ts";
import { leaves, mergePatch, nullMembers } from "../../src/form/changes.ts";
import {
  applyEdits,
  arrange,
  changesBetween,
  type Edit,
  type Edits,
  editsBetween,
  formatEdits,
  NO_EDITS,
  parseEdits,
  setTyped,
  setValue,
  toMergePatch,
  undo,
  unsent,
} from "../../src/form/edits.ts";
import { readSchema } from "../../src/form/schema.ts";

const object = (text: string) => parse(text) as JsonObject;
const edits = (...rows: [string, Edit][]): Edits => new Map(rows);
const set = (value: Json): Edit => ({ kind: "set", value });
const REMOVE: Edit = { kind: "remove" };

const CONFIG = object(
  '{"settings":{"a":1,"list":[1,2],"big":9007199254740993,"inner":{"x":1,"y":2},"a.b":"dot","a/b":"slash","c#d":"hash","m~n":"tilde"},"features":{"f":true}}',
);

const PATCHES: [title: string, edits: Edits, patch: string][] = [
  ["nothing", NO_EDITS, "{}"],
  ["a value", edits(["/settings/a", set(2)]), '{"settings":{"a":2}}'],
  ["a value that is the same", edits(["/settings/a", set(parse("1.0"))]), "{}"],
  [
    "a number beyond 2^53",
    edits(["/settings/big", set(parse("9007199254740995"))]),
    '{"settings":{"big":9007199254740995}}',
  ],
  ["a number as it was typed", edits(["/settings/a", set(parse("2.50"))]), '{"settings":{"a":2.50}}'],
  ["a removed member", edits(["/features/f", REMOVE]), '{"features":{"f":null}}'],
  ["a member that is not there", edits(["/features/g", REMOVE]), "{}"],
  ["an array, as a whole", edits(["/settings/list", set([1, 2, 3])]), '{"settings":{"list":[1,2,3]}}'],
  ["an item of an array", edits(["/settings/list/0", set(5)]), '{"settings":{"list":[5,2]}}'],
  ["a nested object that is new", edits(["/new/deep/x", set(1)]), '{"new":{"deep":{"x":1}}}'],
  [
    "an object in place of another",
    edits(["/settings/inner", set({ y: 2, z: 3 })]),
    '{"settings":{"inner":{"x":null,"z":3}}}',
  ],
  [
    "an object removed and set anew",
    edits(["/settings/inner", REMOVE], ["/settings/inner/z", set(3)]),
    '{"settings":{"inner":{"x":null,"y":null,"z":3}}}',
  ],
  [
    "an inner edit that comes before the outer one",
    edits(["/settings/inner/z", set(3)], ["/settings/inner", REMOVE]),
    '{"settings":{"inner":{"x":null,"y":null,"z":3}}}',
  ],
  ["a text in place of an object", edits(["/settings/inner", set("text")]), '{"settings":{"inner":"text"}}'],
  [
    "names with . / # and ~",
    edits(["/settings/a.b", set(1)], ["/settings/a~1b", set(2)], ["/settings/c#d", set(3)], ["/settings/m~0n", set(4)]),
    '{"settings":{"a.b":1,"a/b":2,"c#d":3,"m~n":4}}',
  ],
  ["an empty name", edits(["/settings/", set(1)]), '{"settings":{"":1}}'],
  ["the name __proto__", edits(["/settings/__proto__", set(1)]), '{"settings":{"__proto__":1}}'],
];

for (const [title, given, patch] of PATCHES) {
  test(`the merge patch of ${title}`, () => {
    assert.equal(format(toMergePatch(CONFIG, given)), patch);
    assert.ok(isEqual(mergePatch(CONFIG, toMergePatch(CONFIG, given)), applyEdits(CONFIG, given)));
  });
}

test("a patch applied to the configuration gives what the edits give, for random documents", () => {
  let seed = 7;
  const random = (below: number) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return Math.floor((seed / 2147483648) * below);
  };
  const value = (depth: number): Json => {
    const kind = random(depth > 2 ? 3 : 5);
    if (kind === 0) return random(3);
    if (kind === 1) return ["", "x", "1"][random(3)] ?? "";
    if (kind === 2) return random(2) === 0;
    if (kind === 3) return Array.from({ length: random(3) }, () => value(depth + 1));
    return Object.fromEntries(
      Array.from({ length: random(4) }, () => [["a", "b/c", "", "~"][random(4)] ?? "", value(depth + 1)]),
    );
  };
  for (let round = 0; round < 500; round++) {
    const old = { root: value(0) };
    const wanted = { root: value(0) };
    const found = editsBetween(old, wanted, readSchema({}));
    assert.ok(isEqual(applyEdits(old, found), wanted), format([old, wanted]));
    assert.ok(isEqual(mergePatch(old, toMergePatch(old, found)), wanted), format([old, wanted]));
    assert.deepEqual(changesBetween(old, applyEdits(old, found)).length === 0, isEqual(old, wanted));
  }
});

test("changes are leaves with old and new values; arrays are leaves, order of members means nothing", () => {
  const old = object('{"a":{"x":1,"y":2.0},"list":[1],"gone":{"p":1,"q":{}},"same":1}');
  const wanted = object('{"same":1.0,"list":[1,2],"a":{"y":2,"x":3},"new":{"r":{"s":1}}}');
  assert.equal(
    format(changesBetween(old, wanted) as unknown as Json),
    '[{"pointer":"/a/x","old":1,"new":3},{"pointer":"/list","old":[1],"new":[1,2]},' +
      '{"pointer":"/gone/p","old":1},{"pointer":"/gone/q","old":{}},{"pointer":"/new/r/s","new":1}]',
  );
  assert.deepEqual(leaves({}), [["", {}]]);
});

test("texts that are no values and secrets that are not sealed cannot be sent", () => {
  const text = edits(["/settings/a", { kind: "text", text: "12a", message: "expected a number" }]);
  assert.deepEqual(unsent(text), [{ pointer: "/settings/a", message: "expected a number" }]);
  assert.throws(() => toMergePatch(CONFIG, text), RangeError);
  assert.equal(applyEdits(CONFIG, text), CONFIG);
  const secret = edits(["/settings/password", { kind: "secret", text: "s3cret" }]);
  assert.deepEqual(unsent(secret), []);
  assert.throws(() => toMergePatch(CONFIG, secret), RangeError);
  assert.equal((applyEdits(CONFIG, secret).settings as JsonObject).password, "***");
  assert.deepEqual(
    unsent(edits(["/settings/inner", set({ x: null })])).map(({ pointer }) => pointer),
    ["/settings/inner/x"],
  );
  assert.deepEqual(nullMembers([null, { a: null }]), ["/1/a"]);
});

test("drafts are read as they were written, without secrets", () => {
  const given = edits(
    ["/settings/a", set(parse("1.50"))],
    ["/settings/big", set(parse("9007199254740997"))],
    ["/settings/inner", set(parse('{"__proto__":1}'))],
    ["/settings/list", REMOVE],
    ["/settings/n", { kind: "text", text: "12a", message: "expected a number" }],
    ["/settings/j", { kind: "text", text: '{"password":"hunter2', message: "expected JSON", sensitive: true }],
    ["/settings/password", { kind: "secret", text: "hunter2" }],
  );
  const text = formatEdits(given);
  assert.ok(!text.includes("hunter2"));
  const read = parseEdits(text);
  assert.deepEqual(
    [...read.keys()],
    ["/settings/a", "/settings/big", "/settings/inner", "/settings/list", "/settings/n"],
  );
  assert.equal(formatEdits(read), text);
});

for (const text of ["", "{", "null", "[1]", '[["a","set",1]]', '[["/a","secret","x"]]', '[["/a"]]']) {
  test(`the damaged draft ${text} has no edits`, () => assert.equal(parseEdits(text).size, 0));
}

test("a value that is typed back to what it was is no edit", () => {
  const changed = setValue(CONFIG, NO_EDITS, "/settings/a", 2);
  assert.deepEqual([...changed.keys()], ["/settings/a"]);
  assert.equal(setValue(CONFIG, changed, "/settings/a", parse("1.0")).size, 0);
  assert.equal(setValue(CONFIG, NO_EDITS, "/settings/none", undefined).size, 0);
});

test("a change inside an array is a change of the array", () => {
  const config = object('{"settings":{"users":[{"name":"a","port":1},{"name":"b","port":2}]}}');
  const changed = setValue(config, NO_EDITS, "/settings/users/1/port", 3);
  assert.deepEqual([...changed.keys()], ["/settings/users"]);
  assert.equal(
    format(toMergePatch(config, changed)),
    '{"settings":{"users":[{"name":"a","port":1},{"name":"b","port":3}]}}',
  );
  assert.equal(undo(config, changed, "/settings/users/1/port").size, 0);
});

test("items keep their secrets and what was typed in them when they move", () => {
  const config = object('{"users":[{"password":"***"},{"password":"***"}]}');
  const typed = setTyped(NO_EDITS, "/users/1/password", { kind: "secret", text: "x" });
  const moved = arrange(config, typed, "/users", [1, 0]);
  assert.deepEqual(moved.get("/users/0/password"), { kind: "secret", text: "x" });
  assert.equal(moved.get("/users/1/password"), undefined);
  const removed = arrange(config, typed, "/users", [0]);
  assert.deepEqual([...removed.keys()], ["/users"]);
  const added = arrange(config, typed, "/users", [{ value: {} }, 0, 1]);
  assert.equal(format(applyEdits(config, added)), '{"users":[{},{"password":"***"},{"password":"***"}]}');
  assert.deepEqual(added.get("/users/2/password"), { kind: "secret", text: "x" });
});

test("a removed object can be filled anew, and taken back", () => {
  const removed = setValue(CONFIG, NO_EDITS, "/settings/inner", undefined);
  const filled = setValue(CONFIG, removed, "/settings/inner/z", 3);
  assert.deepEqual([...filled], [["/settings/inner", set({ z: 3 })]]);
  assert.equal(format(toMergePatch(CONFIG, filled)), '{"settings":{"inner":{"x":null,"y":null,"z":3}}}');
  assert.deepEqual(undo(CONFIG, filled, "/settings/inner"), new Map());
  const partly = undo(CONFIG, removed, "/settings/inner/x");
  assert.equal(
    format(applyEdits(CONFIG, partly).settings as Json),
    format(applyEdits(CONFIG, edits(["/settings/inner", set({ x: 1 })])).settings as Json),
  );
});

test("the raw editor's open secrets become secrets, and what stands for one stays", () => {
  const schema = readSchema({
    allOf: [
      {
        properties: {
          mqtt: {
            properties: {
              password: { type: "string", "x-sensitive": true },
              key_path: { type: "string", "x-sensitive": false },
            },
          },
        },
      },
    ],
  });
  const old = object('{"mqtt":{"password":"***","key_path":"/a"},"tokens":[{"name":"***","value":"***"}]}');
  const wanted = object(
    '{"mqtt":{"password":"new","key_path":"/b"},"tokens":[{"name":"***","value":"***"},{"name":"y","value":"t2"}],"api":{"secret":"s","port":1}}',
  );
  const found = editsBetween(old, wanted, schema);
  assert.deepEqual(
    [...found].map(([pointer, edit]) => [pointer, edit.kind]),
    [
      ["/mqtt/password", "secret"],
      ["/mqtt/key_path", "set"],
      ["/tokens", "set"],
      ["/tokens/1/name", "secret"],
      ["/tokens/1/value", "secret"],
      ["/api", "set"],
      ["/api/secret", "secret"],
    ],
  );
  assert.ok(!formatEdits(found).includes("t2"));
  assert.equal(editsBetween(old, old, schema).size, 0);
});
