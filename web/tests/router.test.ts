import assert from "node:assert/strict";
import { test } from "node:test";
import { changeQuery, enter, href, leave, parseHash, route, startRouter } from "../src/router.ts";

/** The history of a tab, whose moves are told later, as in a browser. */
class Tab {
  entries: { url: string; state: unknown }[] = [{ url: "#/tokens", state: null }];
  at = 0;
  readonly #listeners: (() => void)[] = [];
  moves = 0;

  /** Replace the globals that the router uses. */
  install(): void {
    const tab = this;
    const location = {
      get hash() {
        return tab.entries[tab.at]?.url;
      },
    };
    const history = {
      get state() {
        return tab.entries[tab.at]?.state;
      },
      pushState: (state: unknown, _: string, url: string) => {
        tab.entries = [...tab.entries.slice(0, tab.at + 1), { url, state }];
        tab.at += 1;
      },
      replaceState: (state: unknown, _: string, url: string) => {
        tab.entries[tab.at] = { url, state };
      },
      go: (by: number) => {
        tab.moves += by;
      },
    };
    Object.assign(globalThis, {
      location,
      history,
      window: { addEventListener: (_: string, listener: () => void) => this.#listeners.push(listener) },
    });
    startRouter();
  }

  /** Make the moves that were asked for, and others. */
  move(by = 0): void {
    this.at += this.moves + by;
    this.moves = 0;
    for (const listener of this.#listeners) listener();
  }

  load(...entries: string[]): void {
    this.entries = entries.map((url) => ({ url, state: null }));
    this.at = entries.length - 1;
    this.move();
  }

  get addresses(): string[] {
    return this.entries.map(({ url }) => url);
  }
}

const tab = new Tab();
tab.install();

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

test("what lies over a screen is left by one step back, however often it is asked for", () => {
  tab.load("#/services", "#/tokens?filter=a");
  enter({ create: "1" });
  assert.deepEqual(tab.addresses, ["#/services", "#/tokens?filter=a", "#/tokens?filter=a&create=1"]);
  leave("create");
  leave("create");
  assert.equal(tab.moves, -1);
  tab.move();
  assert.equal(route.value.query.create, undefined);
  leave("create");
  assert.equal(tab.moves, 0);
  assert.equal(route.value.query.filter, "a");
  // Forward and Back, by the browser's own buttons.
  tab.move(1);
  assert.equal(route.value.query.create, "1");
  tab.move(-1);
  assert.equal(route.value.query.create, undefined);
});

test("what the page was loaded with is left where it is", () => {
  tab.load("#/services", "#/tokens?create=1&filter=a");
  leave("create");
  assert.deepEqual([tab.moves, tab.addresses], [0, ["#/services", "#/tokens?filter=a"]]);
});

test("what lies on each other is left together, also where the first of it was loaded", () => {
  tab.load("#/environments/prod");
  enter({ activate: "1" });
  enter({ confirm: "1" });
  leave("activate", "confirm");
  assert.equal(tab.moves, -2);
  tab.move();
  assert.deepEqual([tab.at, route.value.query], [0, {}]);
  tab.load("#/environments/prod?activate=1");
  enter({ confirm: "1" });
  leave("activate", "confirm");
  tab.move();
  assert.deepEqual([tab.at, tab.addresses[0]], [0, "#/environments/prod"]);
});

test("what became something else while it was open is left all the same", () => {
  tab.load("#/tokens");
  enter({ create: "1" });
  changeQuery({ create: undefined, created: "4f1d" });
  assert.deepEqual(tab.addresses, ["#/tokens", "#/tokens?created=4f1d"]);
  leave("created");
  tab.move();
  assert.deepEqual([tab.at, route.value.query], [0, {}]);
});
