// Follows the configuration of one service on the bus: retained at the start, then every change, secrets opened.
//
// The rules are those of docs/reference/mqtt.md; this file is short enough to take into your own program.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import mqtt from "mqtt";
import sodium from "libsodium-wrappers";

await sodium.ready;

const KEY_ID_DIGITS = 16;
const MAX_ERROR = 1024;

/**
 * Connect to the broker and call `apply` with the newest configuration, again after each change, one call at a time.
 *
 * What `apply` throws is reported as `rejected`, so that the operator sees it; anything else as `applied`. A
 * configuration that was deleted is `null`.
 *
 * @param {string} service The service, which is also the user name at the broker unless MQTT_USERNAME says otherwise.
 * @param {(config: object | null, message: object | null) => unknown} apply Takes the configuration; may be async.
 * @returns {mqtt.MqttClient} The connection; `end()` stops.
 */
export function follow(service, apply) {
  const env = process.env;
  const client = mqtt.connect({
    host: env.MQTT_BROKER ?? "127.0.0.1",
    port: Number(env.MQTT_PORT ?? 1883),
    protocolVersion: 5,
    username: env.MQTT_USERNAME ?? service,
    password: env.MQTT_PASSWORD_FILE ? readFileSync(env.MQTT_PASSWORD_FILE, "utf8").trimEnd() : env.MQTT_PASSWORD,
  });
  const keys = env.ALICIACFG_KEY_FILE ? privateKeys(env.ALICIACFG_KEY_FILE) : new Map();
  let held = null;
  let newest = null; // What came while `apply` was at work; only the last of it counts.
  let working = false;
  let reported = null;

  // The library subscribes again after a reconnect, and the broker sends the retained message again.
  client.subscribe(`alicia/config/update/${service}`, { qos: 1 });
  client.on("message", (_topic, payload) => {
    if (payload.length === 0) {
      held = null; // Deleted: hold nothing, and no numbers.
      newest = { message: null };
    } else {
      const message = parsed(payload);
      if (message === null || message.service !== service) return;
      const order = compared(message, held);
      if (order === 0 && reported !== null) report(reported); // The daemon may have missed it.
      if (order <= 0) return;
      reported = null;
      held = message;
      newest = { message };
    }
    work();
  });

  async function work() {
    if (working) return;
    working = true;
    while (newest !== null) {
      const { message } = newest;
      newest = null;
      await applied(message);
    }
    working = false;
  }

  async function applied(message) {
    let error = null;
    try {
      await apply(message === null ? null : opened(message.config, { ...message, service, keys }), message);
    } catch (thrown) {
      error = String(thrown.message ?? thrown).slice(0, MAX_ERROR);
      console.error(`not applied: ${error}`);
    }
    if (message === null) return;
    const { revision, checksum } = message;
    const told = { instance: hostname(), revision, checksum, status: error === null ? "applied" : "rejected" };
    if (error !== null) told.error = error;
    if (message === held) reported = told;
    report(told);
  }

  function report(told) {
    client.publish(`alicia/config/applied/${service}`, JSON.stringify(told), { qos: 1 });
  }

  return client;
}

/** Return a message of the daemon; null for anything else, which others may have published. */
function parsed(payload) {
  try {
    const message = JSON.parse(payload);
    return Number.isSafeInteger(message.epoch) && Number.isSafeInteger(message.sequence) ? message : null;
  } catch {
    return null;
  }
}

/** A message counts exactly if this is above 0: its (epoch, sequence) is higher, whatever environment or revision it names. */
function compared(message, held) {
  if (held === null) return 1;
  return message.epoch - held.epoch || message.sequence - held.sequence;
}

/** Return a copy of a value in which every sealed string is open; `place` says where the boxes have to be bound to. */
function opened(value, place, pointer = "") {
  if (typeof value === "string" && value.startsWith("sealed:v1:")) return openBox(value, place, pointer);
  if (Array.isArray(value)) return value.map((item, index) => opened(item, place, `${pointer}/${index}`));
  if (value === null || typeof value !== "object") return value;
  const escaped = (name) => name.replaceAll("~", "~0").replaceAll("/", "~1");
  const entries = Object.entries(value);
  return Object.fromEntries(entries.map(([name, item]) => [name, opened(item, place, `${pointer}/${escaped(name)}`)]));
}

/** Open `sealed:v1:<key id>:<box>`: a libsodium sealed box around {"service", "environment", "pointer", "value"}. */
function openBox(sealed, { service, environment, keys }, pointer) {
  const [, , id, box] = sealed.split(":");
  const key = keys.get(id);
  if (key === undefined) throw new Error(`${pointer} is sealed to key ${id}, which ALICIACFG_KEY_FILE does not have`);
  const plain = JSON.parse(sodium.to_string(sodium.crypto_box_seal_open(sodium.from_base64(box), key.public, key.private)));
  const bound = { service, environment, pointer };
  for (const [name, expected] of Object.entries(bound)) {
    if (plain[name] !== undefined && plain[name] !== expected) throw new Error(`${pointer} was sealed for another place`);
  }
  return plain.value;
}

/** Return the keys of a file as `aliciacfg recipient new` writes it, by their ids: a base64 key on each line. */
function privateKeys(file) {
  const lines = readFileSync(file, "utf8").split("\n").map((line) => line.trim());
  return new Map(
    lines.filter((line) => line && !line.startsWith("#")).map((line) => {
      const key = sodium.from_base64(line, sodium.base64_variants.ORIGINAL);
      const publicKey = sodium.crypto_scalarmult_base(key);
      const id = createHash("sha256").update(publicKey).digest("hex").slice(0, KEY_ID_DIGITS);
      return [id, { private: key, public: publicKey }];
    }),
  );
}
