/**
 * Which tabs of the browser are open: each has an id, which a reload keeps and a copy of the tab does not.
 *
 * `navigator.locks` would tell, but exists only on HTTPS and localhost.
 */

import { channelOf, PREFIX } from "../memory.ts";
import { randomId } from "./random.ts";

const NAME = `${PREFIX}tab`;
const ANSWER_MS = 250;

type Message = { kind: "who" | "here"; tab: string; from: string };

/** Differs from that of every other page, also from that of a tab of which this one is a copy. */
const page = randomId();
let own = kept() ?? randomId();
let channel: BroadcastChannel | undefined;
let settling: Promise<string> | undefined;
let settled = false;

/** Return the id of this tab, once it is known that no other page uses it. */
export function thisTab(): Promise<string> {
  settling ??= settle();
  return settling;
}

/** Return the id of this tab, or while that is not known another one that no other page uses. */
export function thisTabNow(): string {
  return settled ? own : page;
}

/** Whether another page uses the id of a tab. */
export async function isOpen(tab: string): Promise<boolean> {
  const to = listen();
  if (to === undefined) return false;
  return new Promise((resolve) => {
    const timer = setTimeout(() => end(false), ANSWER_MS);
    const answer = ({ data }: MessageEvent<Message>) => {
      if (data.kind === "here" && data.tab === tab && data.from !== page) end(true);
    };
    function end(open: boolean): void {
      clearTimeout(timer);
      to?.removeEventListener("message", answer);
      resolve(open);
    }
    to.addEventListener("message", answer);
    to.postMessage({ kind: "who", tab, from: page } satisfies Message);
  });
}

async function settle(): Promise<string> {
  // A copy of a tab has the id of the other one in its storage.
  if (await isOpen(own)) own = randomId();
  try {
    sessionStorage.setItem(NAME, own);
  } catch {}
  settled = true;
  return own;
}

function listen(): BroadcastChannel | undefined {
  if (channel !== undefined) return channel;
  const opened = channelOf(NAME);
  if (opened === undefined) return undefined;
  opened.addEventListener("message", ({ data }: MessageEvent<Message>) => {
    // A page whose own id is not settled does not answer: of two that ask at a time, both would get another one.
    if (data.kind !== "who" || data.tab !== own || data.from === page || !settled) return;
    opened.postMessage({ kind: "here", tab: own, from: page } satisfies Message);
  });
  channel = opened;
  return channel;
}

function kept(): string | undefined {
  try {
    return sessionStorage.getItem(NAME) ?? undefined;
  } catch {
    return undefined;
  }
}
