import assert from "node:assert/strict";
import { test } from "node:test";
import { json } from "@codemirror/lang-json";
import { EditorState } from "@codemirror/state";
import { isEqual, type JsonObject, parse } from "../src/api/json.ts";
import { lineOf, placeOf, readText, TextError, writeText } from "../src/edit/config_text.ts";
import { inOrderOf } from "../src/edit/member_order.ts";

const HARD = parse(
  '{"big": 9007199254740993, "whole": 1.0, "huge": 1e400, "small": -0.5, "a.b/c~d#e": {"": "empty name"},' +
    '"lines": "one\\ntwo\\n", "like": ["yes", "null", "1", "1e3", "0x1f", " padded ", "#", "*a", "~"], "none": {}, "items": []}',
) as JsonObject;

test("both formats bring back every number and name", () => {
  for (const kind of ["json", "yaml"] as const) {
    const text = writeText(HARD, kind);
    assert.match(text, /9007199254740993/);
    assert.match(text, /1\.0/);
    const back = readText(text, kind);
    assert.ok(isEqual(back, HARD), text);
    assert.equal(writeText(back, kind), text);
  }
});

test("YAML is read by its own rules, and only what JSON can say", () => {
  assert.deepEqual(readText("a: 0x10\nb: yes\nc: 1_000\nd: 2026-01-01\n1: one\n", "yaml"), {
    a: 16,
    b: "yes",
    c: "1_000",
    d: "2026-01-01",
    1: "one",
  });
  assert.deepEqual(readText("a: &x [1]\nb: *x\n", "yaml"), { a: [1], b: [1] });
  for (const text of ["a: .inf", "a: [", "a: 1\na: 2", "- 1", "", "a: *none", "[1]: 2"])
    assert.throws(() => readText(text, "yaml"), TextError, text);
  const bomb = `a: &a [1,1,1,1,1,1,1,1,1,1]\n${["b", "c", "d", "e", "f", "g"]
    .map((name, index) => {
      const before = String.fromCharCode(97 + index);
      return `${name}: &${name} [${Array(10).fill(`*${before}`).join(",")}]`;
    })
    .join("\n")}`;
  assert.throws(() => readText(bomb, "yaml"), /too large/);
  // The place is said once, by who shows the message.
  assert.throws(() => readText("a: 1\na: 2\n", "yaml"), { message: "Map keys must be unique.", at: 5 });
});

test("what is no JSON names the place", () => {
  const text = '{\n  "a": 1,\n  "b": }\n';
  try {
    readText(text, "json");
    assert.fail("it is none");
  } catch (error) {
    assert.ok(error instanceof TextError);
    assert.equal(lineOf(text, error.at), 3);
  }
});

test("a pointer is found in the text of both formats, or the place around it", () => {
  const config = { a: 1, "x/y": [{ b: "t" }, { b: "u" }] };
  for (const kind of ["json", "yaml"] as const) {
    const doc = writeText(config, kind);
    const state = EditorState.create({ doc, extensions: kind === "json" ? [json()] : [] });
    const shown = (pointer: string) => {
      const { from, to } = placeOf(state, kind, pointer);
      return [doc.slice(from, to), lineOf(doc, from)];
    };
    const quoted = (name: string) => (kind === "json" ? `"${name}"` : name);
    assert.equal(shown("/a")[0], quoted("a"));
    assert.equal(shown("/x~1y")[0], quoted("x/y"));
    const [name, line] = shown("/x~1y/1/b");
    assert.equal(name, quoted("b"));
    assert.equal(line, kind === "json" ? 8 : 4);
    assert.deepEqual(shown("/x~1y/1/missing")[1], kind === "json" ? 7 : 4);
  }
});

test("members stand in the order of the other document", () => {
  const ordered = inOrderOf({ b: { y: 1, x: 2 }, a: 1 }, { new: 0, a: 1, b: { x: 2, y: 3 } });
  assert.equal(JSON.stringify(ordered), '{"b":{"y":3,"x":2},"a":1,"new":0}');
  const items = inOrderOf(
    [{ b: 1, a: 2 }, 3],
    [
      { a: 2, b: 0 },
      { d: 1, c: 2 },
      { f: 1, e: 2 },
    ],
  );
  assert.equal(JSON.stringify(items), '[{"b":0,"a":2},{"d":1,"c":2},{"f":1,"e":2}]');
});
