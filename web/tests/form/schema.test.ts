import assert from "node:assert/strict";
import { test } from "node:test";
import { format, type Json, type JsonObject, parse } from "../../src/api/json.ts";
import { checkEdits, checkValue, messages, rangeInWords } from "../../src/form/checks.ts";
import { type Edit, NO_EDITS } from "../../src/form/edits.ts";
import { blank, isOpen, kindOf, matching, memberNames, nameText, titleOf } from "../../src/form/fields.ts";
import { compareNumbers, isInteger, isMultiple, isNumberText, storedOtherwise } from "../../src/form/numbers.ts";
import { find } from "../../src/form/pointer.ts";
import { matches, readSchema, type SchemaNode, step } from "../../src/form/schema.ts";

const object = (text: string) => parse(text) as JsonObject;

/** The base contract, shortened, and a schema of a service's own, as the daemon answers. */
const tree = readSchema(
  object(`{"allOf": [
    {"type": "object", "required": ["service_name"], "properties": {
       "service_name": {"type": "string"},
       "mqtt_config": {"$ref": "#/$defs/Mqtt"},
       "features": {"type": "object", "additionalProperties": {"type": "boolean"}},
       "settings": {"type": "object"}},
     "$defs": {"Mqtt": {"title": "MqttConfig", "type": "object", "required": ["host"], "properties": {
       "host": {"type": "string", "minLength": 1}, "port": {"type": "integer", "minimum": 1, "maximum": 65535}}}}},
    {"type": "object", "properties": {
       "mqtt_config": {"properties": {"port": {"minimum": 1024, "default": 1883, "x-restart-required": true}}},
       "settings": {"type": "object", "properties": {
         "max_tokens": {"type": "integer"},
         "api_key": {"type": "string", "x-sensitive": true},
         "key_path": {"type": "string", "x-sensitive": false},
         "pin": {"type": "string", "writeOnly": true},
         "maybe": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Range"}]},
         "either": {"oneOf": [{"type": "string"}, {"type": "object"}]},
         "several": {"type": ["string", "integer"]},
         "pair": {"type": "array", "prefixItems": [{}, {}]},
         "codes": {"type": "array", "items": {"type": "string", "x-restart-required": true}},
         "level": {"type": "string", "enum": ["LOW", "HIGH"]},
         "fixed": {"const": 3},
         "tree": {"$ref": "#/$defs/Tree"},
         "shape": {"allOf": [{"type": "object"}, {"properties": {"sides": {"type": "integer"}}}]},
         "rooms": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Range"}},
         "closed": {"type": "object", "additionalProperties": false, "properties": {"a": {}}},
         "by_name": {"type": "object", "patternProperties": {"_seconds$": {"type": "integer", "minimum": 0}}},
         "step": {"type": "number", "multipleOf": 0.1}}}},
     "$defs": {"Range": {"type": "object", "required": ["low"], "properties": {
                 "low": {"type": "number"}, "high": {"type": "number", "exclusiveMinimum": 0}}},
               "Tree": {"type": "object", "properties": {"leaf": {"type": "string"}, "inner": {"$ref": "#/$defs/Tree"}}}}}
  ]}`),
);

test("every part of the schema counts", () => {
  const { node, restart } = tree.at("/mqtt_config/port");
  assert.deepEqual([...(node.types ?? [])], ["integer"]);
  assert.deepEqual(node.limits.minimum, [1, 1024]);
  assert.equal(node.default, 1883);
  assert.ok(restart);
  assert.equal(rangeInWords(tree.at("/mqtt_config/port")), "1024 to 65535");
  assert.deepEqual(messages(tree.at("/mqtt_config/port"), 80), ["expected at least 1024"]);
  assert.deepEqual(tree.restartRequired(["/mqtt_config/port", "/mqtt_config/host", "/settings/codes"]), [
    "/mqtt_config/port",
    "/settings/codes",
  ]);
});

const SECRETS: [pointer: string, value: Json | undefined, secret: boolean][] = [
  ["/settings/api_key", "x", true],
  ["/settings/api_key", undefined, true],
  ["/settings/api_key", 3, false],
  ["/settings/pin", "x", true],
  ["/settings/key_path", "/a", false],
  ["/settings/max_tokens", undefined, false],
  ["/settings/max_tokens", "x", true],
  ["/settings/unknown", "x", false],
  ["/settings/my_password", "x", true],
  ["/settings/tokens/home", "x", true],
  ["/settings/tokens/home", true, false],
  ["/features/token_refresh", undefined, false],
];

for (const [pointer, value, secret] of SECRETS) {
  test(`${value === undefined ? "no value" : format(value)} at ${pointer} is ${secret ? "a" : "no"} secret`, () => {
    assert.equal(tree.isSecret(pointer, value), secret);
  });
}

const KINDS: [pointer: string, value: string | undefined, kind: string][] = [
  ["/settings/max_tokens", undefined, "number"],
  ["/settings/max_tokens", "3", "number"],
  ["/settings/api_key", '"***"', "secret"],
  ["/settings/maybe", undefined, "object"],
  ["/settings/either", undefined, "json"],
  ["/settings/either", '{"a":1}', "json"],
  ["/settings/either", '"text"', "text"],
  ["/settings/several", undefined, "json"],
  ["/settings/several", "1", "number"],
  ["/settings/several", '"1"', "text"],
  ["/settings/pair", "[1,2]", "json"],
  ["/settings/codes", '["a"]', "list"],
  ["/settings/codes/0", '"a"', "text"],
  ["/settings/level", undefined, "choice"],
  ["/settings/level", '"OTHER"', "choice"],
  ["/settings/fixed", "3", "choice"],
  ["/settings/shape", undefined, "object"],
  ["/settings/shape/sides", undefined, "number"],
  ["/settings/tree/inner/inner", undefined, "absent"],
  ["/settings/tree/inner/inner", "{}", "object"],
  ["/settings/unknown", "true", "boolean"],
  ["/settings/unknown", '{"a":1}', "object"],
  ["/settings/unknown", "null", "json"],
  ["/settings/unknown", undefined, "json"],
  ["/features/new", undefined, "boolean"],
  ["/features/new", '"text"', "json"],
  ["/mqtt_config/port", '"text"', "number"],
  ["/mqtt_config/host", "3", "json"],
  ["/mqtt_config", "[]", "json"],
];

for (const [pointer, value, kind] of KINDS) {
  test(`${value ?? "no value"} at ${pointer} is edited as ${kind}`, () => {
    const trail: SchemaNode[] = [];
    const path = pointer.slice(1).split("/");
    let place = tree.root;
    for (const token of path) {
      trail.push(place.node);
      place = step(place, token);
    }
    assert.equal(kindOf(place, value === undefined ? undefined : parse(value), trail), kind);
  });
}

test("a form ends where a value lies very deep", () => {
  const deep = Array.from({ length: 9 }, () => tree.root.node);
  assert.equal(kindOf(tree.at("/settings/unknown"), {}, deep), "json");
});

test("members are declared ones, those that are there, and removed ones; the daemon's are left out", () => {
  const config = object('{"service_name":"x","zebra":1,"features":{"a":true},"settings":{"extra":1}}');
  assert.deepEqual(memberNames(tree.root, "", [config], []), ["settings", "features", "mqtt_config", "zebra"]);
  const features = tree.at("/features");
  assert.deepEqual(memberNames(features, "/features", [config.features], ["/features/x~1y", "/other"]), ["a", "x/y"]);
  assert.ok(memberNames(tree.at("/settings"), "/settings", [config.settings], []).includes("extra"));
  assert.ok(isOpen(features.node) && isOpen(tree.at("/settings/rooms").node) && isOpen(tree.at("/unknown").node));
  assert.ok(!isOpen(tree.at("/settings").node) && !isOpen(tree.at("/settings/closed").node));
  assert.equal(titleOf(tree.at("/mqtt_config"), "mqtt_config"), undefined);
});

test("a value to begin with", () => {
  assert.deepEqual(blank(tree.at("/settings/rooms/kitchen").node), { low: 0 });
  assert.equal(blank(tree.at("/mqtt_config/port").node), 1883);
  assert.equal(blank(tree.at("/settings/level").node), "LOW");
  assert.equal(blank(tree.at("/features/new").node), false);
  assert.deepEqual(blank(tree.at("/settings/unknown").node, "array"), []);
});

const WRONG: [pointer: string, value: string, message: string][] = [
  ["/settings/max_tokens", "1.5", "expected a whole number"],
  ["/settings/max_tokens", "18446744073709551616", "expected an integer of 64 bits"],
  ["/settings/several", "true", "expected a text or a whole number"],
  ["/settings/level", '"MEDIUM"', "expected one of LOW, HIGH"],
  ["/settings/fixed", "4", "expected one of 3"],
  ["/settings/step", "0.25", "expected a multiple of 0.1"],
  ["/mqtt_config/host", '""', "must not be empty"],
  ["/settings/rooms/a/high", "0", "expected more than 0"],
  ["/settings/by_name/wait_seconds", "-1", "expected at least 0"],
  ["/settings/unknown", "1e400", "expected a number that a double can hold"],
];

for (const [pointer, value, message] of WRONG) {
  test(`${value} at ${pointer}: ${message}`, () =>
    assert.deepEqual(messages(tree.at(pointer), parse(value)), [message]));
}

const RIGHT: [pointer: string, value: string][] = [
  ["/settings/max_tokens", "10.0"],
  ["/settings/max_tokens", "9223372036854775807"],
  ["/settings/step", "0.3"],
  ["/settings/step", "1e20"],
  ["/settings/step", "12345678901234567890.1"],
  ["/settings/api_key", '"***"'],
  ["/settings/fixed", "3.0"],
];

for (const [pointer, value] of RIGHT) {
  test(`${value} is right at ${pointer}`, () =>
    assert.deepEqual(checkValue(tree.at(pointer), parse(value), pointer), []));
}

test("edits are checked with what is in them and what is missing around", () => {
  const edits = new Map<string, Edit>([
    ["/settings/rooms/hall", { kind: "set", value: { high: 1 } }],
    ["/mqtt_config/port", { kind: "set", value: 80 }],
    ["/settings/closed/b", { kind: "set", value: 1 }],
    ["/settings/closed", { kind: "set", value: { b: 1 } }],
    ["/settings/step", { kind: "text", text: "x", message: "expected a number" }],
  ]);
  assert.deepEqual(
    checkEdits(tree, object('{"service_name":"x"}'), edits)
      .map(({ pointer, message }) => `${pointer} ${message}`)
      .sort(),
    [
      "/mqtt_config/host is missing; this member is required",
      "/mqtt_config/port expected at least 1024",
      "/settings/closed/b is not a known member; remove it or correct the name",
      "/settings/rooms/hall/low is missing; this member is required",
      "/settings/step expected a number",
    ],
  );
  assert.deepEqual(checkEdits(tree, {}, NO_EDITS), []);
});

test("a typed secret is checked, and never quoted", () => {
  const strict = readSchema({ properties: { password: { type: "string", minLength: 4, pattern: "^[a-z]+$" } } });
  const problems = (text: string) =>
    checkEdits(strict, {}, new Map<string, Edit>([["/password", { kind: "secret", text }]])).map(
      ({ message }) => message,
    );
  assert.deepEqual(problems("Ab1"), ["expected at least 4 characters", "expected a text that matches ^[a-z]+$"]);
  assert.match(problems("***").join(), /type the secret itself/);
  assert.deepEqual(problems("sealed:v1:3333333333333333:abc"), []);
});

test("fields are found by name, description and value, but not by a secret", () => {
  const config = object(
    '{"service_name":"x","mqtt_config":{"host":"Broker","port":1},"settings":{"api_key":"***","note":"hello"}}',
  );
  const found = (words: string[]) => [...matching(tree.root, { config, current: config, removed: [] }, words)].sort();
  assert.deepEqual(found(["broker"]), ["", "/mqtt_config", "/mqtt_config/host"]);
  assert.deepEqual(found(["mqtt", "PORT"]), ["", "/mqtt_config", "/mqtt_config/port"]);
  assert.deepEqual(found(["***"]), []);
  assert.deepEqual(found(["nothing like it"]), []);
});

const ORDERED: [low: string, high: string][] = [
  ["1", "2"],
  ["-2", "-1"],
  ["9007199254740992", "9007199254740993"],
  ["0.1", "0.10000000000000000001"],
  ["1e3", "1001"],
  ["1", "1e900000000"],
];

for (const [low, high] of ORDERED) {
  test(`${low} is less than ${high}`, () => {
    assert.ok(compareNumbers(parse(low), parse(high)) < 0);
    assert.ok(compareNumbers(parse(high), parse(low)) > 0);
    assert.equal(compareNumbers(parse(low), parse(low)), 0);
  });
}

test("numbers are divided and read exactly", () => {
  assert.ok(isMultiple(parse("0.3"), parse("0.1")) && !isMultiple(parse("0.35"), parse("0.1")));
  assert.ok(isInteger(parse("1.50e1")) && !isInteger(parse("15e-1")));
  for (const text of ["0", "-1", "1.0", "1e5", "9007199254740993"]) assert.ok(isNumberText(text), text);
  for (const text of ["", "01", "1.", ".5", "+1", "1,5", "0x1", "NaN", "1e"]) assert.ok(!isNumberText(text), text);
});

test("a number is checked as the daemon stores it", () => {
  const port = tree.at("/mqtt_config/port");
  for (const text of ["8080.0", "8080.0000000000000000001", "8.08e3"])
    assert.deepEqual(messages(port, parse(text)), []);
  assert.deepEqual(messages(tree.at("/settings/max_tokens"), parse("18446744073709551615")), []);
});

test("what is stored otherwise than it is typed is said", () => {
  const typed = parse('{"a":1.0,"b":[-0,2.50,9007199254740993],"c":{"d/e":1e-400},"f":"1.0","g":1.5,"h":1e999}');
  assert.deepEqual(storedOtherwise(typed), [
    ["/a", "1.0 is stored as 1"],
    ["/b/0", "-0 is stored as 0"],
    ["/b/1", "2.50 is stored as 2.5"],
    ["/c/d~1e", "1e-400 is stored as 0"],
  ]);
});

test("a schema that refers to itself at once is read", () => {
  const loop = readSchema(
    object('{"allOf":[{"properties":{"a":{"$ref":"#/properties/a"},"b":{"allOf":[{"$ref":"#"}]}}}]}'),
  );
  assert.equal(kindOf(loop.at("/a"), undefined, []), "json");
  assert.ok(loop.at("/b/b/b/a").node.described);
  assert.equal(find({}, "/b"), undefined);
});

test("a pattern that a browser would try for years is left to the daemon", () => {
  const text = `${"a".repeat(60)}!`;
  const slow = [
    "^(a+)+$",
    "^(a|aa)*$",
    "^(?:a?a?)*$",
    "^((a)*b?){2,}$",
    "^(?<x>[a-z]*)+$",
    "^a*a*a*a*a*a*$",
    "(x+x+)+y",
  ];
  for (const pattern of slow) assert.equal(matches(pattern, text), undefined, pattern);
  assert.equal(matches("^a*a*$", "a".repeat(100_000)), undefined);
});

test("a format that is not known here is left to the daemon, whatever its name", () => {
  for (const name of ["hostname", "constructor", "toString"]) {
    const { root } = readSchema(object(`{"type": "string", "format": "${name}"}`));
    assert.deepEqual(checkValue(root, "a", ""), []);
  }
});

test("other patterns are tried in the browser", () => {
  const tried: [pattern: string, text: string, expected: boolean | undefined][] = [
    ["^[a-z]+://[^/]+(/.*)?$", "mqtt://host/x", true],
    ["^[a-z]+://[^/]+(/.*)?$", "mqtt:/host", false],
    ["^\\(\\)+$", "())", true],
    ["^[(+)*]+$", "(+)*", true],
    ["^(?:on|off)$", "of", false],
    ["^#[0-9a-f]{6}$", "#00ff0", false],
    ["", "anything", true],
    ["^a*$", "a".repeat(100_000), true],
    ["(", "no expression", undefined],
  ];
  for (const [pattern, text, expected] of tried) assert.equal(matches(pattern, text), expected, pattern);
});

test("the names that a schema makes those of secrets", () => {
  const names = (properties: object, more: object = {}) => {
    const found = readSchema(object(JSON.stringify({ allOf: [{ type: "object", properties, ...more }] }))).secretNames;
    return found && [...found];
  };
  const marked = { "x-sensitive": true };
  assert.deepEqual(names({ a: { type: "string" }, x: { default: marked } }), []);
  assert.deepEqual(
    names({ pin: marked, codes: { items: marked }, deep: { properties: { once: { writeOnly: true } } } }),
    ["pin", "codes", "once"],
  );
  assert.deepEqual(names({ pin: { anyOf: [marked, { type: "null" }] } }), ["pin"]);
  assert.equal(names({ rooms: { additionalProperties: marked } }), undefined);
  assert.equal(names({ pin: { $ref: "#/$defs/pin" } }, { $defs: { pin: marked } }), undefined);
});

for (const [name, text] of [
  ["volume", "volume"],
  ["a.b/c#d~1", "a.b/c#d~1"],
  ["", '""'],
  [" a", '" a"'],
  ["a  b", '"a  b"'],
  ["\u202eevil", '"\\u202eevil"'],
  ["caf\u00e9", "caf\u00e9"],
  ["cafe\u0301", '"cafe\\u0301"'],
  ["\u0928\u093f", "\u0928\u093f"],
] as const) {
  test(`the member ${JSON.stringify(name)} is labelled ${text}`, () => assert.equal(nameText(name), text));
}
