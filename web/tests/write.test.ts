import assert from "node:assert/strict";
import { test } from "node:test";
import { RequestError } from "../src/api/client.ts";
import { carryOut, type Surroundings, type Write, type WriteAnswer } from "../src/edit/write.ts";

const WRITE: Write = {
  service: "s",
  environment: "dev",
  revision: 7,
  change: { kind: "patch", patch: { a: 1 } },
  comment: "why",
  allowBreaking: false,
  requestId: "1",
};
const EXPECTED = { changed: ["/a"], checksum: "abc", revision: 8, secrets: false };
const error = (code: string, retryAfter?: number) => new RequestError(code, 0, code, [], {}, retryAfter);
const answer = { revision: 8 } as WriteAnswer;

/** A daemon that answers in this order, and the history that it has then. */
function daemon(answers: (RequestError | WriteAnswer)[], history: Awaited<ReturnType<Surroundings["history"]>> = []) {
  const sent: string[] = [];
  const pauses: number[] = [];
  const around: Surroundings = {
    send: async ({ requestId }) => {
      sent.push(requestId);
      const next = answers.shift() ?? error("unreachable");
      if (next instanceof RequestError) throw next;
      return next;
    },
    history: async () => history,
    pause: async (seconds) => {
      pauses.push(seconds);
    },
    report: () => {},
  };
  return { around, sent, pauses };
}

const item = (revision: number, more: object) =>
  ({ revision, comment: "why", checksum: "", changed: ["/a"], ...more }) as Awaited<
    ReturnType<Surroundings["history"]>
  >[number];

test("a busy daemon gets the same request again after the time that it says", async () => {
  const { around, sent, pauses } = daemon([error("busy", 3), error("busy"), answer]);
  assert.deepEqual(await carryOut(WRITE, EXPECTED, around), { kind: "done", revision: 8, answer });
  assert.deepEqual(sent, ["1", "1", "1"]);
  assert.deepEqual(pauses, [3, 2]);
});

test("a lost answer is asked for again with the same id; the conflict with one's own revision is success", async () => {
  const { around, sent } = daemon(
    [error("unreachable"), error("conflict")],
    [item(8, { checksum: "abc" }), item(7, {})],
  );
  assert.deepEqual(await carryOut(WRITE, EXPECTED, around), { kind: "done", revision: 8 });
  assert.deepEqual(sent, ["1", "1"]);
});

test("a conflict after a lost answer is one if the revision is somebody else's", async () => {
  for (const other of [{ checksum: "other" }, { checksum: "abc", comment: null }]) {
    const { around } = daemon([error("unreachable"), error("conflict")], [item(8, other)]);
    assert.equal((await carryOut(WRITE, EXPECTED, around)).kind, "conflict");
  }
});

test("a sealed secret makes another checksum; then the changed places tell", async () => {
  const { around } = daemon([error("internal"), error("conflict")], [item(8, { checksum: "other" })]);
  assert.deepEqual(await carryOut(WRITE, { ...EXPECTED, secrets: true }, around), { kind: "done", revision: 8 });
});

test("what was deleted goes on with its numbers, so the dry run says which revision is the own one", async () => {
  const { around } = daemon([error("unreachable"), error("conflict")], [item(8, { checksum: "abc" })]);
  const write: Write = { ...WRITE, revision: 0, change: { kind: "rollback", revision: 6 } };
  assert.deepEqual(await carryOut(write, EXPECTED, around), { kind: "done", revision: 8 });
});

test("a conflict at once is one, whatever the history has", async () => {
  const { around } = daemon([error("conflict")], [item(8, { checksum: "abc" })]);
  assert.equal((await carryOut(WRITE, EXPECTED, around)).kind, "conflict");
  const again = daemon([error("conflict")], [item(8, { checksum: "abc" })]);
  assert.equal((await carryOut(WRITE, EXPECTED, again.around, true)).kind, "done");
});

test("a refusal is not repeated", async () => {
  for (const code of ["forbidden", "unauthorized", "validation_failed", "incompatible", "too_large", "not_found"]) {
    const { around, sent } = daemon([error(code)]);
    assert.equal((await carryOut(WRITE, EXPECTED, around)).kind, "refused");
    assert.equal(sent.length, 1);
  }
});

test("without any answer the outcome is unknown; after nothing but busy it is known that nothing was done", async () => {
  const silent = daemon([]);
  assert.equal((await carryOut(WRITE, EXPECTED, silent.around)).kind, "unknown");
  const busy = daemon(Array.from({ length: 6 }, () => error("busy", 60)));
  assert.equal((await carryOut(WRITE, EXPECTED, busy.around)).kind, "waiting");
  assert.equal(Math.max(...busy.pauses), 10);
});
