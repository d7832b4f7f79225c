import assert from "node:assert/strict";
import { test } from "node:test";
import { format, isEqual, type Json, parse } from "../src/api/json.ts";

const TEXTS = ["9007199254740993", "-9007199254740993", "1.0", "1e400", "0.1", "-0", "12345678901234567890.5", "1E3"];

for (const text of TEXTS) {
  test(`the number ${text} is written as it was read`, () => {
    assert.equal(format(parse(`{"a":[${text}]}`)), `{"a":[${text}]}`);
  });
}

const PAIRS: [string, string, boolean][] = [
  ["1", "1.0", true],
  ["10", "1e1", true],
  ["0.10", "1e-1", true],
  ["-0", "0", true],
  ["9007199254740993", "9007199254740992", false],
  ["1e400", "2e400", false],
  ['{"a":1,"b":2}', '{"b":2,"a":1}', true],
  ["[1,2]", "[2,1]", false],
  ["null", "{}", false],
  ['{"a":null}', "{}", false],
  ["[]", "{}", false],
];

for (const [one, other, equal] of PAIRS) {
  test(`${one} is ${equal ? "" : "not "}equal to ${other}`, () => {
    assert.equal(isEqual(parse(one), parse(other)), equal);
  });
}

test("a member named __proto__ is a member like others", () => {
  const value = parse('{"__proto__": {"a": 1}}') as { [name: string]: Json };
  assert.deepEqual(Object.keys(value), ["__proto__"]);
});
