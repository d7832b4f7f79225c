import assert from "node:assert/strict";
import { test } from "node:test";
import { RequestError, request } from "../src/api/client.ts";

for (const text of ["", "null", "5", "[]", "<html>", '{"half": ']) {
  test(`${text || "nothing"} is no answer of the daemon`, async () => {
    globalThis.fetch = async () => new Response(text);
    await assert.rejects(
      request("GET", "/whoami"),
      (error) => error instanceof RequestError && error.code === "internal",
    );
  });
}
