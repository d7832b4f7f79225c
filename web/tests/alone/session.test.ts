import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import type { Json, JsonObject } from "../../src/api/json.ts";
import type { Base, HistoryItem } from "../../src/edit/revisions.ts";
import { authorOf } from "../../src/edit/revisions.ts";
import type { Session } from "../../src/edit/session.ts";
import type { Edit } from "../../src/form/edits.ts";

/** The browser's storage, which may be full. */
class Storage {
  full = false;
  setItem(name: string, value: string): void {
    if (this.full) throw new Error("QuotaExceededError");
    Object.assign(this, { [`kept ${name}`]: value });
  }
  getItem(name: string): string | null {
    return (this as unknown as Record<string, string>)[`kept ${name}`] ?? null;
  }
  removeItem(name: string): void {
    delete (this as unknown as Record<string, string>)[`kept ${name}`];
  }
  names(): string[] {
    return Object.keys(this)
      .filter((name) => name.startsWith("kept "))
      .map((name) => name.slice("kept ".length));
  }
}

const storage = new Storage();
// Object.keys of a Storage are the names of its items.
const local = new Proxy(storage, {
  ownKeys: () => storage.names(),
  getOwnPropertyDescriptor: () => ({ enumerable: true, configurable: true }),
  get: (target, name) => {
    const value = Reflect.get(target, name);
    return typeof value === "function" ? value.bind(storage) : value;
  },
});
const answers = new Map<string, object>();
Object.assign(globalThis, {
  localStorage: local,
  sessionStorage: new Storage(),
  // It would keep the process alive; without it no other tab is open.
  BroadcastChannel: undefined,
  fetch: async (address: string) => {
    for (const [part, answer] of answers) {
      if (address.includes(part)) return new Response(JSON.stringify({ status: "success", ...answer }));
    }
    return new Response(JSON.stringify({ status: "error", code: "not_found", message: address }), { status: 404 });
  },
});
const { addEdit, sessionOf } = await import("../../src/edit/sessions.ts");
const { draftsOf, keepDraftText } = await import("../../src/store/drafts.ts");
const { useToken } = await import("../../src/api/client.ts");
const { channelOf } = await import("../../src/memory.ts");

let number = 0;
let service = "";
const CONFIG: JsonObject = { version: "1.0.0", a: 1, b: { c: "x" }, password: "***" };
const base = (revision: number, changes: JsonObject = {}): Base => ({
  config: { ...CONFIG, ...changes },
  revision,
  epoch: 1,
});
const JSON_TEXT = { format: "json", text: "", secretNames: new Set<string>() } as const;
const set = (value: Json): Edit => ({ kind: "set", value });

function history(...entries: { revision: number; changed: string[] }[]): void {
  const rest = { sequence: 1, version: "1.0.0", checksum: "", breaking: false, restart_required: [] };
  const made = { author: "ann", timestamp: 1, cause: "api", comment: null } as const;
  const revisions = entries.map((entry): HistoryItem => ({ ...rest, ...made, ...entry }));
  answers.set(`config/${service}/history`, { service, environment: "dev", revisions, next: null });
}

/** Return what the daemon answers with a configuration. */
function answerOf(at: Base): object {
  return { ...at, service, environment: "dev", version: "1.0.0", last_updated: 1, sequence: 1, checksum: "" };
}

async function opened(at = base(7)): Promise<Session> {
  const session = sessionOf(service, "dev", at);
  await session.settled();
  return session;
}

beforeEach(() => {
  number += 1;
  service = `service${number}`;
  answers.clear();
  storage.full = false;
});

test("a newer revision is shown at once where nothing is edited, and said whose it is", async () => {
  const session = await opened();
  history({ revision: 8, changed: ["/a"] });
  session.receive(base(8, { a: 2 }));
  await session.settled();
  assert.equal(session.base.value.revision, 8);
  assert.equal(session.news.value?.entries[0]?.author, "ann");
  assert.deepEqual(session.news.value?.changes, [{ pointer: "/a", old: 1, new: 2 }]);
});

test("the author of an earlier revision is not taken for that of a newer one", async () => {
  history({ revision: 8, changed: ["/a"] });
  const session = await opened();
  session.receive(base(8, { a: 2 }));
  await session.settled();
  history({ revision: 9, changed: ["/a"] });
  const authors: (string | undefined)[] = [];
  const stop = session.news.subscribe((news) => authors.push(news && authorOf(news)));
  session.receive(base(9, { a: 3 }));
  await session.settled();
  stop();
  assert.deepEqual(authors, ["ann", undefined, "ann"]);
});

test("edits stay on a newer revision; what both changed waits for a decision", async () => {
  const session = await opened();
  session.edits.value = new Map([
    ["/a", set(5)],
    ["/b/c", set("y")],
  ]);
  history({ revision: 8, changed: ["/a"] });
  session.receive(base(8, { a: 2 }));
  await session.settled();
  assert.deepEqual([...session.edits.value.keys()], ["/a", "/b/c"]);
  assert.deepEqual(session.conflicts.value, [{ pointer: "/a", before: 1, theirs: 2 }]);
  session.decide("/a", "theirs");
  assert.deepEqual([...session.edits.value.keys()], ["/b/c"]);
  assert.deepEqual(session.conflicts.value, []);
});

test("an older answer that comes late changes nothing", async () => {
  const session = await opened();
  session.receive(base(6, { a: 9 }));
  await session.settled();
  assert.equal(session.base.value.revision, 7);
});

test("the revision of a write of this page is not somebody else's", async () => {
  const session = await opened();
  session.edits.value = new Map([["/a", set(5)]]);
  session.beginWrite();
  session.receive(base(8, { a: 5 }));
  await session.settled();
  assert.equal(session.base.value.revision, 7);
  const sent = session.edits.value;
  // As the raw editor makes them anew with each key.
  session.edits.value = new Map([
    ["/a", set(5)],
    ["/b/c", set("typed while it was sent")],
  ]);
  session.finishWrite(base(8, { a: 5 }), sent, {
    changes: [{ pointer: "/a", old: 1, new: 5 }],
    restart: [],
    how: "edits",
    waits: false,
  });
  await session.settled();
  assert.equal(session.base.value.revision, 8);
  assert.equal(session.news.value, undefined);
  assert.deepEqual([...session.edits.value.keys()], ["/b/c"]);
  assert.deepEqual([session.applied.value?.before, session.applied.value?.revision], [7, 8]);
});

test("a draft of a tab that is not open comes back, merged with what changed since", async () => {
  const edits = JSON.stringify([
    ["/a", "set", 5],
    ["/b/c", "set", "y"],
  ]);
  const draft = { revision: 7, epoch: 1, time: 1, edits, secrets: ["/password"], conflicts: [], comment: "why" };
  keepDraftText({ service, environment: "dev", tab: "gone" }, JSON.stringify(draft));
  answers.set(`config/${service}?environment=dev&revision=7`, answerOf(base(7)));
  history({ revision: 8, changed: ["/a"] });
  const session = await opened(base(8, { a: 2 }));
  assert.deepEqual([...session.edits.value.keys()], ["/a", "/b/c"]);
  assert.deepEqual(session.conflicts.value, [{ pointer: "/a", before: 1, theirs: 2 }]);
  assert.equal(session.comment.value, "why");
  assert.deepEqual(session.restored.value?.secrets, ["/password"]);
  assert.deepEqual(
    storage.names().filter((name) => name.includes(`/${service}/gone`)),
    [],
  );
  assert.ok(draftsOf().has(`dev/${service}`));
  session.discard();
  assert.ok(!draftsOf().has(`dev/${service}`));
});

test("a draft on a revision that is not kept any more asks about each edit that differs", async () => {
  const edits = JSON.stringify([["/a", "set", 5]]);
  const draft = { revision: 3, epoch: 1, time: 1, edits, secrets: [], conflicts: [], comment: "" };
  keepDraftText({ service, environment: "dev", tab: "gone" }, JSON.stringify(draft));
  const session = await opened();
  assert.deepEqual(session.conflicts.value, [{ pointer: "/a", before: undefined, theirs: 1 }]);
});

test("what the browser does not keep is said", async () => {
  const session = await opened();
  storage.full = true;
  session.edits.value = new Map([["/a", set(5)]]);
  session.keep();
  assert.equal(session.unkept.value, true);
  storage.full = false;
  session.keep();
  assert.equal(session.unkept.value, false);
});

test("typed secrets are forgotten with the token; other edits stay", async () => {
  useToken("t");
  const session = await opened();
  session.edits.value = new Map<string, Edit>([
    ["/a", set(5)],
    ["/password", { kind: "secret", text: "planted" }],
  ]);
  session.keep();
  assert.ok(!JSON.stringify(storage).includes("planted"));
  useToken("");
  assert.deepEqual([...session.edits.value.keys()], ["/a"]);
});

test("a text keeps the edits that it does not show", async () => {
  const session = await opened();
  session.edits.value = new Map<string, Edit>([
    ["/a", { kind: "text", text: "12a", message: "no number" }],
    ["/password", { kind: "secret", text: "planted" }],
  ]);
  const wanted = { ...CONFIG, b: { c: "y" } };
  session.editText({ ...JSON_TEXT, base: session.base.value }, new Map([["/b/c", set("y")]]), wanted);
  assert.deepEqual([...session.edits.value.keys()].sort(), ["/a", "/b/c", "/password"]);
});

test("a text that is older than the configuration does not undo what others did", async () => {
  const session = await opened();
  session.edits.value = new Map([["/b/c", set("y")]]);
  const old = session.base.value;
  session.text.value = { ...JSON_TEXT, base: old };
  history({ revision: 8, changed: ["/a"] });
  session.receive(base(8, { a: 2 }));
  await session.settled();
  const text = { ...JSON_TEXT, base: old } as const;
  session.editText(text, new Map([["/b/c", set("z")]]), { ...CONFIG, b: { c: "z" } });
  assert.deepEqual(session.conflicts.value, []);
  const both = new Map([
    ["/b/c", set("z")],
    ["/a", set(3)],
  ]);
  session.editText(text, both, { ...CONFIG, a: 3, b: { c: "z" } });
  assert.deepEqual(session.conflicts.value, [{ pointer: "/a", before: 1, theirs: 2 }]);
});

test("another screen adds an edit to the draft", async () => {
  answers.set(`config/${service}?environment=dev`, answerOf(base(7)));
  await addEdit(service, "dev", "/a", set(3));
  const session = await opened();
  assert.deepEqual([...session.edits.value], [["/a", set(3)]]);
  assert.ok(draftsOf().has(`dev/${service}`));
});

test("what others keep under the name of drafts does no harm", async () => {
  for (const name of ["draft/%E0%A4%A/x/y", "draft/", "draft/%", "draft/dev"]) {
    storage.setItem(`aliciacfg.${name}`, "rubbish");
  }
  const session = await opened();
  session.edits.value = new Map([["/a", set(2)]]);
  session.keep();
  assert.ok(draftsOf().has(`dev/${service}`));
});

/** Connects the tabs; one of them is open, and says so. */
class Tabs extends EventTarget {
  postMessage({ kind, tab }: { kind: string; tab: string }): void {
    if (kind !== "who" || tab !== "open") return;
    const answer = new MessageEvent("message", { data: { kind: "here", tab, from: "another page" } });
    queueMicrotask(() => this.dispatchEvent(answer));
  }
}

test("a browser that denies storage may deny what connects its tabs, too", () => {
  class Denied {
    constructor() {
      throw new DOMException("The operation is insecure.", "SecurityError");
    }
  }
  for (const denied of [undefined, Denied]) {
    Object.assign(globalThis, { BroadcastChannel: denied });
    assert.equal(channelOf("tabs"), undefined);
  }
});

// The last test: the page keeps its channel.
test("a draft of a tab that is open stays with that tab, and can be discarded here", async () => {
  Object.assign(globalThis, { BroadcastChannel: Tabs });
  const draft = {
    revision: 7,
    epoch: 1,
    time: 1,
    edits: JSON.stringify([["/a", "set", 5]]),
    secrets: [],
    conflicts: [],
  };
  const place = { service, environment: "dev", tab: "open" };
  keepDraftText(place, JSON.stringify({ ...draft, comment: "" }));
  const session = await opened();
  assert.equal(session.edits.value.size, 0);
  assert.deepEqual(
    session.others.value.map(({ tab, open }) => [tab, open]),
    [["open", true]],
  );
  session.edits.value = new Map([["/a", set(2)]]);
  session.keep();
  assert.equal(storage.names().filter((name) => name.includes(`/${service}/`)).length, 2);
  session.dropOther("open");
  assert.deepEqual(session.others.value, []);
  assert.equal(storage.names().filter((name) => name.includes(`/${service}/`)).length, 1);
});
