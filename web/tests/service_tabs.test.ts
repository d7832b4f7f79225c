import assert from "node:assert/strict";
import { test } from "node:test";
import { TABS, tabOf } from "../src/screens/service_tabs.ts";

test("an address names a tab or none, whatever stands in it", () => {
  assert.equal(tabOf("history"), TABS.history);
  for (const name of [undefined, "", "form", "constructor", "toString", "__proto__"])
    assert.equal(tabOf(name), undefined);
});
