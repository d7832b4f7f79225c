import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { whatIsWrong } from "../src/api/answer_shape.ts";
import { RequestError, request } from "../src/api/client.ts";
import { isObject, type Json, type JsonObject, parse } from "../src/api/json.ts";
import { ROUTES, SHAPES } from "../src/api/shapes.ts";
import { shapes } from "../write_shapes.ts";

const all = await shapes();
const api = JSON.parse(await readFile(new URL("../../docs/openapi.json", import.meta.url), "utf8"));

test("the shapes are those of the documentation of the API; else run npm run shapes", () => {
  assert.deepEqual(SHAPES, all.shapes);
  assert.deepEqual(ROUTES, all.routes);
});

for (const route of ROUTES) {
  const [method = "", path = "", name = ""] = route.split(" ");
  const [documented = "", operations] = Object.entries<JsonObject>(api.paths).find(
    ([each]) => each.replace(/\{\w+\}/g, "*") === path,
  ) ?? ["", {}];
  // biome-ignore lint/suspicious/noExplicitAny: the document's own form.
  const content = (operations[method.toLowerCase()] as any).responses["200"].content["application/json"];
  const asked = documented.replace(/\{\w+\}/g, "some%2Fname");

  test(`${method} ${path}: documented answers are right, each lack and each other type in them is wrong`, () => {
    for (const example of Object.values<JsonObject>(content.examples ?? {})) {
      const answer = parse(JSON.stringify(example.value)) as JsonObject;
      // What is answered where something else was asked for: only a part, or that nothing changed.
      if (route.startsWith("GET /config/* ") && (answer.unchanged === true || !isObject(answer.config))) continue;
      assert.equal(whatIsWrong(method, asked, answer), undefined);
      for (const [member, code] of Object.entries(SHAPES[name] ?? {})) {
        const { [member]: had, ...without } = answer;
        if (!code.startsWith("~")) assert.equal(whatIsWrong(method, asked, without), `/${member} is missing`);
        if (had === undefined || code.endsWith("*")) continue;
        const wrong: Json[] = [/^[~?]*s$/.test(code) ? 5 : "text", ...(code.includes("?") ? [] : [null])];
        for (const other of wrong)
          assert.match(whatIsWrong(method, asked, { ...answer, [member]: other }) ?? "", /^\/.* is not /);
      }
    }
    for (const none of [null, 5, "text", []]) assert.equal(whatIsWrong(method, asked, none), "it is not an object");
  });
}

test("what is wrong far inside is named", () => {
  const entry = { kind: "file", subject: "x", message: "y", since: 1 };
  const answer = { status: "success", request_id: null, drift: [entry, { ...entry, subject: null }], found: {} };
  assert.equal(whatIsWrong("GET", "/drift", answer), "/drift/1/subject is not a text");
  assert.equal(
    whatIsWrong("GET", "/drift", { ...answer, drift: [], found: { file: "x" } }),
    "/found/file is not a number",
  );
});

test("a request whose answer has another form fails, and says what is wrong and what to do", async () => {
  globalThis.fetch = async () => new Response('{"status":"success","request_id":null,"tokens":[{}]}');
  await assert.rejects(request("GET", "/tokens"), (error) => {
    assert.ok(error instanceof RequestError);
    assert.equal(error.code, "internal");
    assert.match(error.message, /^The answer to GET \/tokens .*: \/tokens\/0\/token_id is missing\.$/);
    return true;
  });
});

test("a refusal whose problems have another form is a refusal without them", async () => {
  const problems = ["x", null, { pointer: 5, message: "m" }, { pointer: "/a", message: "told" }];
  const body = { status: "error", code: "validation_failed", message: "no", problems };
  globalThis.fetch = async () => new Response(JSON.stringify(body), { status: 422 });
  await assert.rejects(request("PATCH", "/config/x"), (error) => {
    assert.ok(error instanceof RequestError);
    assert.deepEqual(error.problems, [{ pointer: "/a", message: "told" }]);
    return true;
  });
});
