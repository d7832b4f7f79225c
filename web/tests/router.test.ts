import assert from "node:assert/strict";
import { test } from "node:test";
import { href, parseHash } from "../src/router.ts";

for (const name of ["voice_router", "a.b", "a/b", "a#b", "a?b", "100%", "größe", "~tilde", "a b"]) {
  test(`a route with the name ${name} comes back as it was`, () => {
    const address = href(["services", name, "history"], { pointer: `/${name}`, env: undefined, empty: "" });
    assert.deepEqual(parseHash(address), { path: ["services", name, "history"], query: { pointer: `/${name}` } });
  });
}

test("a stray % is kept", () => {
  assert.deepEqual(parseHash("#/services/100%"), { path: ["services", "100%"], query: {} });
});

test("no hash is the empty route", () => {
  assert.deepEqual(parseHash(""), { path: [], query: {} });
});
