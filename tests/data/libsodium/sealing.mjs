// Another program's side of the format, written after docs/reference/documents.md alone: seals and opens with libsodium-wrappers.
//
// Standard input has a JSON array of requests, {"public_key", "plain"} to seal and {"private_key", "sealed"} to open;
// standard output gets the array of sealed values and opened plaintexts. Keys are in standard base64.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import sodium from "libsodium-wrappers";

await sodium.ready;

const KEY_ID_DIGITS = 16;

const fromBase64 = (text) => sodium.from_base64(text, sodium.base64_variants.ORIGINAL);
const keyId = (publicKey) => createHash("sha256").update(publicKey).digest("hex").slice(0, KEY_ID_DIGITS);

function seal({ public_key, plain }) {
  const publicKey = fromBase64(public_key);
  const box = sodium.crypto_box_seal(JSON.stringify(plain), publicKey);
  return `sealed:v1:${keyId(publicKey)}:${sodium.to_base64(box)}`;
}

function open({ private_key, sealed }) {
  const privateKey = fromBase64(private_key);
  const publicKey = sodium.crypto_scalarmult_base(privateKey);
  const [, version, id, box] = sealed.split(":");
  if (version !== "v1" || id !== keyId(publicKey)) throw new Error(`not sealed for ${keyId(publicKey)}`);
  return JSON.parse(sodium.to_string(sodium.crypto_box_seal_open(sodium.from_base64(box), publicKey, privateKey)));
}

const requests = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(requests.map((request) => ("plain" in request ? seal(request) : open(request)))));
