import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { type Channel, StreamPlaces } from "../src/api/stream_places.ts";

/** Tabs of one browser, which hear each other. */
class Tabs {
  readonly channels = new Set<Channel>();

  open(): { places: StreamPlaces; crash: () => void } {
    const channels = this.channels;
    const channel: Channel = {
      onmessage: null,
      postMessage(data: unknown) {
        for (const other of channels) if (other !== channel) other.onmessage?.({ data } as MessageEvent);
      },
    };
    channels.add(channel);
    const places = new StreamPlaces(channel);
    mock.timers.tick(1);
    places.use();
    return { places, crash: () => channels.delete(channel) };
  }
}

beforeEach(() => mock.timers.enable({ apis: ["Date", "setTimeout"] }));
afterEach(() => mock.timers.reset());

function having(tabs: readonly { places: StreamPlaces }[]): number[] {
  return tabs.flatMap(({ places }, index) => (places.hasPlace.value ? [index] : []));
}

test("the three tabs that were used last have a stream, and the next one gets the place of one that is left", () => {
  const browser = new Tabs();
  const tabs = Array.from({ length: 6 }, () => browser.open());
  assert.deepEqual(having(tabs), [3, 4, 5]);
  tabs[0]?.places.use();
  assert.deepEqual(having(tabs), [0, 4, 5]);
  tabs[4]?.places.leave();
  assert.deepEqual(having(tabs.toSpliced(4, 1)), [0, 3, 4]);
  tabs[4]?.places.use();
  assert.deepEqual(having(tabs), [0, 4, 5]);
});

test("a tab that crashed keeps no place", () => {
  const browser = new Tabs();
  const tabs = Array.from({ length: 5 }, () => browser.open());
  tabs[4]?.crash();
  const left = tabs.slice(0, 4);
  for (const { places } of left) places.ask();
  assert.deepEqual(having(left), [2, 3]);
  mock.timers.tick(1000);
  assert.deepEqual(having(left), [1, 2, 3]);
});

test("what other pages of the origin send changes nothing", () => {
  const browser = new Tabs();
  const tab = browser.open();
  const [channel] = browser.channels;
  const rubbish: unknown[] = [null, 5, "x", [], {}, { id: 1, used: 9e15 }, { id: "a", used: "9" }, { id: "b" }];
  for (const data of [...rubbish, ...rubbish]) channel?.onmessage?.({ data } as MessageEvent);
  assert.ok(tab.places.hasPlace.value);
});

test("where tabs cannot hear each other, each has a stream", () => {
  const places = new StreamPlaces(undefined);
  places.use();
  assert.ok(places.hasPlace.value);
});
