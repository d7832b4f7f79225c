import assert from "node:assert/strict";
import { test } from "node:test";
import type { Answers } from "../src/api/client.ts";
import { Comparisons } from "../src/store/comparisons.ts";

type Answer = Answers["CompareAnswer"];
const ANSWER = { changed: { "/a": {} }, only_in_env1: {}, only_in_env2: {} } as unknown as Answer;
const names = Array.from({ length: 20 }, (_, index) => `service_${index}`);

/** A daemon that answers when it is told to. */
class Daemon {
  readonly asked: string[] = [];
  readonly waiting: (() => void)[] = [];
  most = 0;
  readonly compare = (service: string): Promise<Answer> => {
    this.asked.push(service);
    return new Promise((resolve) => {
      this.waiting.push(() => resolve(ANSWER));
      this.most = Math.max(this.most, this.waiting.length);
    });
  };

  async answer(count: number): Promise<void> {
    for (let answered = 0; answered < count; answered += 1) {
      this.waiting.shift()?.();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

test("few comparisons run at a time, in the order of the list, each once", async () => {
  const daemon = new Daemon();
  const comparisons = new Comparisons(daemon.compare);
  comparisons.want(names);
  comparisons.want(names);
  await daemon.answer(names.length);
  assert.deepEqual(daemon.asked, names);
  assert.equal(daemon.most, 4);
  assert.ok(names.every((name) => comparisons.of(name).kind === "compared"));
});

test("a service that changes while it is compared is compared again, and shows the newer answer", async () => {
  const daemon = new Daemon();
  const comparisons = new Comparisons(daemon.compare);
  comparisons.want(["a"]);
  comparisons.renew((service) => service === "a");
  await daemon.answer(1);
  assert.equal(comparisons.of("a").kind, "waiting");
  await daemon.answer(1);
  assert.deepEqual(daemon.asked, ["a", "a"]);
  assert.equal(comparisons.of("a").kind, "compared");
});

test("what was compared stays in sight until it is compared again", async () => {
  const daemon = new Daemon();
  const comparisons = new Comparisons(daemon.compare);
  comparisons.want(["a", "b"]);
  await daemon.answer(2);
  comparisons.renew((service) => service === "b");
  assert.equal(comparisons.of("b").kind, "compared");
  assert.deepEqual(daemon.asked, ["a", "b", "b"]);
  await daemon.answer(1);
});

test("nothing is begun while nobody looks, and goes on where it was", async () => {
  const daemon = new Daemon();
  const comparisons = new Comparisons(daemon.compare);
  comparisons.want(names);
  comparisons.pause();
  await daemon.answer(4);
  assert.equal(daemon.asked.length, 4);
  comparisons.want(names);
  await daemon.answer(names.length);
  assert.ok(names.every((name) => comparisons.of(name).kind === "compared"));
});

test("a comparison that fails says why", async () => {
  const comparisons = new Comparisons(() => Promise.reject(new Error("busy")));
  comparisons.want(["a"]);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(comparisons.of("a"), { kind: "failed", message: "busy" });
});
