import assert from "node:assert/strict";
import { afterEach, before, beforeEach, mock, test } from "node:test";
import { RequestError } from "../../src/api/client.ts";
import type { Json } from "../../src/api/json.ts";
import { receive, resourceOf } from "../../src/store/resources.ts";

/** More than the pause between two loads. */
const PAUSE_MS = 1000;
let number = 0;
let key = "";
let loads: { answer: (data: string) => void; signal: AbortSignal }[] = [];

const load = (signal: AbortSignal) =>
  new Promise<string>((answer) => {
    loads.push({ answer, signal });
  });

/** Return a resource that a screen shows. */
function shown(topics: string[]) {
  const resource = resourceOf(key, load, topics);
  resource.users += 1;
  resource.need();
  return resource;
}

async function later(milliseconds = PAUSE_MS): Promise<void> {
  mock.timers.tick(milliseconds);
  await settled();
}

/** Let what was resolved go on. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function tell(kind: string, data: Json): void {
  receive({ kind, id: undefined, data });
}

function hello(environment: string, resumed: boolean, instance = "this home"): void {
  tell("hello", { environment, instance, resumed });
}

before(() => hello("dev", false));

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout"] });
  number += 1;
  key = `resource ${number}`;
  loads = [];
});

afterEach(() => mock.timers.reset());

test("a load that takes long ends, however often what it loads changes meanwhile", async () => {
  const resource = shown([`change:${key}`]);
  await later();
  for (let change = 0; change < 5; change += 1) {
    tell("change", { service: key });
    await later();
  }
  assert.deepEqual([loads.length, loads[0]?.signal.aborted], [1, false]);
  loads[0]?.answer("old");
  await settled();
  assert.deepEqual(resource.state.value, { data: "old", loading: false });
  await later();
  assert.equal(loads.length, 2);
  loads[1]?.answer("new");
  await settled();
  assert.deepEqual(resource.state.value, { data: "new", loading: false });
  await later(60_000);
  assert.equal(loads.length, 2);
});

test("a load of which nothing comes any more is given up once it is out of date", async () => {
  shown([`change:${key}`]);
  await later();
  tell("change", { service: key });
  await later(11_000);
  assert.deepEqual([loads.length, loads[0]?.signal.aborted], [2, true]);
});

test("what is used again is not dropped for what is used for the first time", async () => {
  const first = resourceOf(key, load, []);
  for (let other = 0; other < 100; other += 1) {
    assert.equal(resourceOf(key, load, []), first);
    resourceOf(`${key} other ${other}`, load, []);
  }
  assert.equal(resourceOf(key, load, []), first);
});

test("what depends on the active environment is loaded again when another one was activated unheard", async () => {
  shown(["environment"]);
  await later();
  loads[0]?.answer("of dev");
  await settled();
  hello("dev", true);
  await later();
  assert.equal(loads.length, 1);
  hello("prod", true);
  await later();
  assert.equal(loads.length, 2);
});

test("what no stream begins with is loaded again with each new stream, and with each event", async () => {
  shown(["tokens"]);
  await later();
  loads[0]?.answer("before");
  await settled();
  tell("audit", {});
  await later();
  assert.equal(loads.length, 1);
  tell("tokens", {});
  await later();
  loads[1]?.answer("after");
  await settled();
  hello("prod", true);
  await later();
  assert.equal(loads.length, 3);
});

test("the health is loaded again with each new stream: another daemon may have started, and be as healthy", async () => {
  shown(["health", "environment"]);
  await later();
  loads[0]?.answer("running for a day");
  await settled();
  hello("prod", true);
  await later();
  assert.equal(loads.length, 2);
});

test("an attempt that fails as the one before is no news, and one that fails otherwise is", async () => {
  const refusal = (message: string) => new RequestError("unavailable", 503, message, [], {});
  const messages = ["the files cannot be used", "the files cannot be used", "the database is away"];
  const resource = resourceOf(key, () => Promise.reject(refusal(messages.shift() ?? "")), []);
  resource.users += 1;
  const errors: unknown[] = [];
  for (const _ of [...messages]) {
    await resource.refresh();
    errors.push(resource.state.peek().error);
  }
  assert.equal(errors[1], errors[0]);
  assert.notEqual(errors[2], errors[1]);
});

test("nothing of one home is shown when another one is served at the same address", async () => {
  const homes = ["this home", "another home"];
  const resource = resourceOf(key, async () => homes.shift() ?? "", []);
  resource.users += 1;
  await resource.refresh();
  hello("prod", true);
  assert.equal(resource.state.peek().data, "this home");
  hello("prod", true, "another home");
  assert.equal(resource.state.peek().data, undefined);
  await later();
  assert.deepEqual(resource.state.peek(), { data: "another home", loading: false });
});
