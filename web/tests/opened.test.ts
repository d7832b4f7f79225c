import assert from "node:assert/strict";
import { test } from "node:test";
import { href, parseHash } from "../src/router.ts";
import { readNames, writeNames } from "../src/ui/opened.ts";

test("the names of parts come back from an address as they were", () => {
  const names = ["voice_router", "/settings/a b", "/100%/~1", "-common", "/größe#?&="];
  const address = href(["services", "bell"], { open: writeNames(names), shut: writeNames([]) });
  const { query } = parseHash(address);
  assert.deepEqual([...readNames(query.open)], names);
  assert.deepEqual([...readNames(query.shut)], []);
});

test("an address names the parts that were opened last, and not more than it can hold", () => {
  const names = Array.from({ length: 1000 }, (_, index) => `part${index}`);
  assert.deepEqual([...readNames(writeNames(names))], names.slice(-50));
});

test("a stray % is kept", () => {
  assert.deepEqual([...readNames("100% b")], ["100%", "b"]);
});
