import assert from "node:assert/strict";
import { test } from "node:test";
import { type Reviewed, readReviewed, writeReviewed } from "../src/edit/reviewed.ts";

const REVIEWS: Reviewed[] = [
  { kind: "edits" },
  { kind: "rollback", revision: 7 },
  { kind: "unset", pointer: "" },
  { kind: "unset", pointer: "/settings/a.b~1c" },
];

for (const of of REVIEWS) {
  test(`the address of the review ${writeReviewed(of)} names it`, () => {
    assert.deepEqual(readReviewed(writeReviewed(of)), of);
  });
}

test("an address that names no review is that of the edits", () => {
  for (const text of ["", "undo.", "undo.x", "undo.-1", "other"]) assert.deepEqual(readReviewed(text), REVIEWS[0]);
});
