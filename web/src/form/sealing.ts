/** Seals typed secrets for the daemon (libsodium's `crypto_box_seal`), so that nothing on the way can read them. */

import sealedbox from "tweetnacl-sealedbox-js";
import { request } from "../api/client.ts";
import { format } from "../api/json.ts";
import { PREFIX } from "../memory.ts";
import type { Edit, Edits } from "./edits.ts";

/** The daemon's public key, as `GET /keys/current` answers. */
export interface Key {
  key_id: string;
  /** X25519, in standard base64. */
  public_key: string;
}

/** Where a secret belongs: a box opens nowhere else. */
export interface Destination {
  service: string;
  environment: string;
}

const SEEN = `${PREFIX}sealing_key`;
/** What `aliciacfg seal` prints, and somebody may paste. */
const SEALED = /^sealed:v1:[0-9a-f]{16}:[\w-]+$/;
let seen: string | undefined;

/** The daemon has another key than the one that this tab sealed with or saw before. */
export class KeyChanged extends Error {
  readonly key: Key;

  constructor(key: Key) {
    super(
      `The daemon's key is another one than before in this tab: now ${key.key_id}. ` +
        "Nothing was sent. Accept it if the daemon's keys were rotated; otherwise somebody may be in between.",
    );
    this.key = key;
  }
}

/** Use a key from now on in this tab. */
export function acceptKey(key: Key): void {
  seen = key.public_key;
  try {
    sessionStorage.setItem(SEEN, key.public_key);
  } catch {} // A browser that denies storage: it is known until the page is loaded again.
}

function seenBefore(): string | undefined {
  try {
    seen ??= sessionStorage.getItem(SEEN) ?? undefined;
  } catch {}
  return seen;
}

/**
 * Return the edits with each typed secret sealed for its place.
 *
 * @throws KeyChanged if the daemon's key is not the one that this tab knows.
 * @throws RequestError if the daemon does not answer.
 */
export async function sealEdits(edits: Edits, destination: Destination): Promise<Edits> {
  const key = await request<Key>("GET", "/keys/current");
  const before = seenBefore();
  if (before !== undefined && before !== key.public_key) throw new KeyChanged(key);
  acceptKey(key);
  return new Map(
    [...edits].map(([pointer, edit]): [string, Edit] =>
      edit.kind === "secret"
        ? [
            pointer,
            {
              kind: "set",
              value: SEALED.test(edit.text) ? edit.text : seal(edit.text, { ...destination, pointer }, key),
            },
          ]
        : [pointer, edit],
    ),
  );
}

/** Return a text as `sealed:v1:<key id>:<box>`, which only the owner of the key opens, and only at its place. */
export function seal(value: string, place: Destination & { pointer: string }, key: Key): string {
  const { service, environment, pointer } = place;
  const text = new TextEncoder().encode(format({ service, environment, pointer, value }));
  const box = sealedbox.seal(text, bytes(key.public_key));
  return `sealed:v1:${key.key_id}:${base64url(box)}`;
}

function bytes(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

function base64url(data: Uint8Array): string {
  const text = Array.from(data, (byte) => String.fromCharCode(byte)).join("");
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
