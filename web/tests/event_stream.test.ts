import assert from "node:assert/strict";
import { test } from "node:test";
import { EventParser } from "../src/api/event_stream.ts";

const STREAM =
  ': hello\n\nid: 1.7\nevent: change\ndata: {"service":\ndata: "a"}\n\nevent: health\r\ndata: {}\r\n\r\ndata: 1\n\n';
const EVENTS = [
  { kind: "change", id: "1.7", data: { service: "a" } },
  { kind: "health", id: "1.7", data: {} },
  { kind: "message", id: "1.7", data: 1 },
];

for (const size of [1, 2, 3, 7, 1000]) {
  test(`a stream that comes ${size} characters at a time is read whole`, () => {
    const parser = new EventParser();
    const found = [];
    for (let at = 0; at < STREAM.length; at += size) found.push(...parser.push(STREAM.slice(at, at + size)));
    assert.deepEqual(found, EVENTS);
  });
}
