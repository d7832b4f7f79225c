import assert from "node:assert/strict";
import { test } from "node:test";
import { format, parse } from "../../src/api/json.ts";
import { around, child, find, isWithin, join, parent, put, tokens } from "../../src/form/pointer.ts";

const PATHS: [string, string[]][] = [
  ["", []],
  ["/", [""]],
  ["/a/b", ["a", "b"]],
  ["/a.b/c#d", ["a.b", "c#d"]],
  ["/a~1b/m~0n", ["a/b", "m~n"]],
  ["/~01", ["~1"]],
  ["//", ["", ""]],
  ["/__proto__/constructor", ["__proto__", "constructor"]],
];

for (const [pointer, path] of PATHS) {
  test(`the pointer ${JSON.stringify(pointer)} is split and joined`, () => {
    assert.deepEqual(tokens(pointer), path);
    assert.equal(join(path), pointer);
  });
}

test("a pointer that does not begin with a slash is refused", () => {
  assert.throws(() => tokens("a/b"), RangeError);
});

test("the places around a pointer", () => {
  assert.deepEqual(around("/a/b/0"), ["", "/a", "/a/b"]);
  assert.deepEqual(around(""), []);
  assert.equal(parent("/a"), "");
  assert.equal(parent(""), undefined);
  assert.equal(child("/a", "b/c"), "/a/b~1c");
  assert.ok(isWithin("/a/b", "/a") && isWithin("/a", "/a") && isWithin("/a", "") && !isWithin("/ab", "/a"));
});

test("what an object inherits is not found in it", () => {
  assert.equal(find({}, "/constructor"), undefined);
  assert.equal(find({}, "/__proto__"), undefined);
  assert.equal(find(parse('{"__proto__":{"a":1}}'), "/__proto__/a"), 1);
  assert.equal(find(["x"], "/00"), undefined);
  assert.equal(find("text", "/length"), undefined);
});

const PUTS: [document: string, pointer: string, value: string | undefined, expected: string][] = [
  ["{}", "/a/b", "1", '{"a":{"b":1}}'],
  ['{"a":1}', "/a/b", "1", '{"a":{"b":1}}'],
  ['{"a":{"b":1,"c":2}}', "/a/b", undefined, '{"a":{"c":2}}'],
  ['{"a":1}', "/b/c", undefined, '{"a":1}'],
  ['{"a":[1,2]}', "/a/1", "3", '{"a":[1,3]}'],
  ['{"a":[1,2]}', "/a/2", "3", '{"a":[1,2,3]}'],
  ['{"a":[1,2]}', "/a/9", "3", '{"a":[1,2]}'],
  ['{"a":[1,2]}', "/a/0", undefined, '{"a":[2]}'],
  ['{"a":[{"b":1}]}', "/a/0/c", "2", '{"a":[{"b":1,"c":2}]}'],
  ["{}", "/__proto__/x", "1", '{"__proto__":{"x":1}}'],
  ["{}", "/", "1", '{"":1}'],
];

for (const [document, pointer, value, expected] of PUTS) {
  test(`${value ?? "nothing"} put at ${pointer} of ${document}`, () => {
    const before = parse(document);
    const after = put(before, tokens(pointer), value === undefined ? undefined : parse(value));
    assert.equal(format(after), expected);
    assert.equal(format(before), document, "the document itself is changed");
  });
}

test("what a change does not touch is the same object", () => {
  const before = { a: { x: 1 }, b: { y: 2 } };
  const after = put(before, ["a", "x"], 2) as typeof before;
  assert.equal(after.b, before.b);
  assert.equal(put(before, ["a", "x"], 1), before);
});
