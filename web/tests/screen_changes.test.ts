import assert from "node:assert/strict";
import { test } from "node:test";
import { format, type JsonObject, parse } from "../src/api/json.ts";
import { writeChanges } from "../src/edit/write_changes.ts";
import { activationTitle, byFile, comparedChanges, homeChanges, matching } from "../src/screens/changes.ts";

test("a change that the answer leaves out has the values of the documents", () => {
  const before = parse('{"settings": {"a": 9007199254740993, "long": "x", "gone": 1}}') as JsonObject;
  const answer = {
    config: parse('{"settings": {"a": 9007199254740992, "long": "y", "new": {"b": 1}}}') as Record<string, never>,
    changed: ["/settings/a", "/settings/long", "/settings/gone", "/settings/new"],
    changes: parse('{"/settings/a": {"old": 9007199254740993, "new": 9007199254740992}}') as Record<string, never>,
  };
  assert.deepEqual(
    writeChanges(before, answer).map((one) => [one.pointer, format(one.old), format(one.new)]),
    [
      ["/settings/a", "9007199254740993", "9007199254740992"],
      ["/settings/long", '"x"', '"y"'],
      ["/settings/gone", "1", ""],
      ["/settings/new", "", '{"b":1}'],
    ],
  );
});

const COMPARED = {
  status: "success" as const,
  request_id: null,
  service: "a",
  env1: "dev",
  env2: "prod",
  rev1: 1,
  rev2: 0,
  equal: false,
  changed: { "/n": { env1: 1, env2: 2 }, "/settings/key": { env1: "secret", env2: "secret" } },
  only_in_env1: { "/settings/account": { name: "secret", password: "secret" } },
  only_in_env2: { "/empty": {}, "/a~1b": [1] },
  secrets: [],
  missing: {},
  problems: {},
  remedies: [],
  lacking_secrets: [],
  hidden: ["/settings/account/password", "/settings/key"],
};

test("a comparison lists leaves in the order of their places, and masks what is hidden, not what says secret", () => {
  assert.deepEqual(comparedChanges(COMPARED), [
    { pointer: "/a~1b", new: [1] },
    { pointer: "/empty", new: {} },
    { pointer: "/n", old: 1, new: 2 },
    { pointer: "/settings/account/name", old: "secret" },
    { pointer: "/settings/account/password", old: "***" },
    { pointer: "/settings/key", old: "***", new: "***" },
  ]);
});

test("a comparison of an older daemon that does not say what is hidden is shown all the same", () => {
  const { hidden: _, ...older } = COMPARED;
  assert.equal(comparedChanges(older as typeof COMPARED).length, 6);
});

test("changes are found by place and by value", () => {
  const changes = comparedChanges(COMPARED);
  assert.deepEqual(
    matching(changes, "ACCOUNT").map(({ pointer }) => pointer),
    ["/settings/account/name", "/settings/account/password"],
  );
  assert.deepEqual(
    matching(changes, "2").map(({ pointer }) => pointer),
    ["/n"],
  );
  assert.equal(matching(changes, " "), changes);
});

test("what most services have in common is listed once", () => {
  const port = { "/port": { old: 1883, new: 8883 } };
  const found = homeChanges(
    { a: port, b: port, c: { ...port, "/x": { new: 1 } }, d: { "/port": { old: 1, new: 8883 } } },
    { d: 2 },
  );
  assert.deepEqual(found.shared, [{ change: { pointer: "/port", old: 1883, new: 8883 }, services: ["a", "b", "c"] }]);
  assert.deepEqual(found.services, [
    { service: "a", changes: [], count: 1, leftOut: 0 },
    { service: "b", changes: [], count: 1, leftOut: 0 },
    { service: "c", changes: [{ pointer: "/x", new: 1 }], count: 2, leftOut: 0 },
    { service: "d", changes: [{ pointer: "/port", old: 1, new: 8883 }], count: 3, leftOut: 2 },
  ]);
  assert.equal(found.places, 7);
});

/** A problem of a service in a file, as the daemon words it. */
function of(service: string, line: number, text: string) {
  const file = "environments/base.yaml";
  return { pointer: `/services/${service}`, message: `${file}:${line}: ${service} ${text}`, file, line, service };
}

test("problems are listed by file and line; those without a file come first, with their place", () => {
  assert.deepEqual(
    byFile([
      of("a", 37, "/port: is missing"),
      of("b", 5, "/port: is missing"),
      { pointer: "/settings/x", message: "is no number" },
      {
        pointer: "",
        message: "environments/a-secrets.yaml:1: variable X is not set",
        file: "environments/a-secrets.yaml",
        line: 1,
      },
      { pointer: "", message: "environments/c.yaml: is empty", file: "environments/c.yaml" },
    ]),
    [
      { file: "", count: 1, problems: [{ lines: [], message: "/settings/x: is no number" }] },
      {
        file: "environments/a-secrets.yaml",
        count: 1,
        problems: [{ lines: [1], message: "variable X is not set" }],
      },
      {
        file: "environments/base.yaml",
        count: 2,
        problems: [
          { lines: [5], message: "b /port: is missing" },
          { lines: [37], message: "a /port: is missing" },
        ],
      },
      { file: "environments/c.yaml", count: 1, problems: [{ lines: [], message: "is empty" }] },
    ],
  );
});

test("a problem that several services have is listed once, with all its lines", () => {
  const problems = ["a", "b", "c"].map((name, index) => of(name, index + 1, "/port: is missing"));
  const other = of("a", 9, "/host: is empty");
  assert.deepEqual(byFile([...problems, other]), [
    {
      file: "environments/base.yaml",
      count: 4,
      problems: [
        { lines: [1, 2, 3], message: "3 services: /port: is missing" },
        { lines: [9], message: "a /host: is empty" },
      ],
    },
  ]);
});

test("the title of an activation counts what changes, and names the environment", () => {
  const answer = {
    environment: "staging",
    changed: ["a", "b", "c"],
    restart_required: ["a"],
    added: ["c"],
    removed: ["d"],
  };
  assert.equal(
    activationTitle(answer),
    "Activate staging: 2 services change, 1 new, 1 without a configuration afterwards, 1 needs a restart",
  );
  assert.equal(
    activationTitle({ environment: "dev", changed: ["a"], restart_required: [] }),
    "Activate dev: 1 service changes, none needs a restart",
  );
});
