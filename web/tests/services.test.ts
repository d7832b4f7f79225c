import assert from "node:assert/strict";
import { test } from "node:test";
import type { JsonObject } from "../src/api/json.ts";
import type { Service, Services, Status } from "../src/api/queries.ts";
import { inOrder, matches, readFilters, readSort } from "../src/screens/service_filters.ts";
import { patchServices } from "../src/store/services.ts";

function service(name: string, status: Status = {}, more: Partial<Service> = {}): Service {
  return {
    service: name,
    environment: "dev",
    version: "1.0.0",
    revision: 1,
    checksum: "",
    last_updated: 0,
    status,
    ...more,
  };
}

function list(...configs: Service[]): Services {
  return { configs, invalid: [], refused_edits: [], active: true, protected: false };
}

function event(kind: string, data: JsonObject) {
  return { kind, id: undefined, data };
}

const CHANGE: JsonObject = {
  service: "b",
  environment: "dev",
  revision: 2,
  version: "1.0.1",
  checksum: "c",
  timestamp: 5,
  author: "mario",
  cause: "api",
  comment: "why",
  breaking: false,
  changed_count: 1,
  deleted: false,
};

test("a change renews one service, keeps what it does not say, and has the rest read", () => {
  const before = list(service("a"), service("b", { online: true, drift: 1 }));
  const read: string[] = [];
  const after = patchServices(event("change", CHANGE), before, undefined, (name) => read.push(name));
  assert.equal(after?.configs[0], before.configs[0]);
  const { revision, version, last_updated, status } = after?.configs[1] ?? service("");
  assert.deepEqual([revision, version, last_updated], [2, "1.0.1", 5]);
  assert.deepEqual([status?.author, status?.comment, status?.online, status?.drift], ["mario", "why", true, 1]);
  assert.deepEqual(read, ["b"]);
});

test("a change in another environment is none of this list's", () => {
  const before = list(service("b"));
  const other = event("change", { ...CHANGE, environment: "prod" });
  assert.equal(
    patchServices(other, before, undefined, () => assert.fail()),
    before,
  );
});

test("a service that is new comes in, one that ended goes", () => {
  const before = list(service("a"));
  const added = patchServices(event("change", CHANGE), before, "dev", () => {});
  assert.deepEqual(
    added?.configs.map((item) => item.service),
    ["a", "b"],
  );
  const ended = patchServices(event("change", { ...CHANGE, deleted: true }), added ?? before, "dev", () => {});
  assert.deepEqual(
    ended?.configs.map((item) => item.service),
    ["a"],
  );
});

test("services that go on or off line change alone", () => {
  const before = list(service("a", { online: true }), service("b", { online: true }));
  const after = patchServices(event("online", { services: { b: false } }), before, undefined, () => {});
  assert.equal(after?.configs[0], before.configs[0]);
  assert.equal(after?.configs[1]?.status?.online, false);
});

test("drift is counted by service; findings that are not all told have the list read", () => {
  const before = list(service("a", { drift: 2 }), service("b"));
  const drift = [{ service: "b" }, { service: "b" }, { service: null }];
  const after = patchServices(event("drift", { drift, count: 3 }), before, undefined, () => {});
  assert.deepEqual(
    after?.configs.map((item) => item.status?.drift ?? 0),
    [0, 2],
  );
  assert.equal(
    patchServices(event("drift", { drift, count: 300 }), before, undefined, () => {}),
    undefined,
  );
});

test("an environment that was activated has the list read", () => {
  assert.equal(
    patchServices(event("environment", { environment: "prod" }), list(service("a")), undefined, () => {}),
    undefined,
  );
});

test("the search looks at name, author and comment, for all its words", () => {
  const one = service("voice_router", { author: "Mario", comment: "louder in the kitchen" });
  for (const search of ["", "ROUTER", "mario", "kitchen voice", " louder "])
    assert.ok(matches(search, [], new Set())(one), search);
  for (const search of ["luigi", "kitchen stove"]) assert.ok(!matches(search, [], new Set())(one), search);
});

test("filters are together: a service has to pass all", () => {
  const one = service("a", { drift: 1, online: false });
  assert.ok(matches("", ["drift", "offline"], new Set())(one));
  assert.ok(!matches("", ["drift", "draft"], new Set())(one));
  assert.ok(matches("", ["draft"], new Set(["dev/a"]))(one));
});

test("what is never registered is not offline", () => {
  assert.ok(!matches("", ["offline"], new Set())(service("a")));
});

test("an address with unknown filters and orders is read as far as it is known", () => {
  assert.deepEqual(readFilters("drift,nonsense,draft"), ["drift", "draft"]);
  assert.deepEqual(readSort("-changed"), { key: "changed", descending: true });
  assert.deepEqual(readSort("nonsense"), { key: "service", descending: false });
});

test("names with numbers are in the order that people expect, also below another order", () => {
  const services = [service("s10"), service("s9", {}, { revision: 3 }), service("s1")];
  const names = (text: string) => inOrder(services, readSort(text)).map((item) => item.service);
  assert.deepEqual(names("service"), ["s1", "s9", "s10"]);
  assert.deepEqual(names("-service"), ["s10", "s9", "s1"]);
  assert.deepEqual(names("-revision"), ["s9", "s1", "s10"]);
});
