// Answers the Python tests: reads one JSON object per line, and writes one answer per line.
import { createInterface } from "node:readline";
import { format, type JsonObject, parse } from "../../src/api/json.ts";
import { checkValue } from "../../src/form/checks.ts";
import { asStored } from "../../src/form/numbers.ts";
import { readSchema } from "../../src/form/schema.ts";
import { seal } from "../../src/form/sealing.ts";

/** Return what the form says of places: which strings are secrets, and which changes need a restart. */
function places({ schema, pointers }: { schema: JsonObject; pointers: string[] }) {
  const tree = readSchema(schema);
  return {
    secret: pointers.filter((pointer) => tree.isSecret(pointer, "text")),
    restart: tree.restartRequired(pointers),
  };
}

/** Return the pointers of what the form finds wrong with a document. */
function check({ schema, document }: { schema: JsonObject; document: JsonObject }) {
  const tree = readSchema(schema);
  return checkValue(tree.root, document, "").map(({ pointer, message }) => [pointer, message]);
}

// biome-ignore lint/suspicious/noExplicitAny: the tests send what the functions take.
const answers: Record<string, (input: any) => unknown> = {
  places,
  check,
  stored: ({ text }) => format(asStored(parse(text))),
  seal: ({ value, place, key }) => seal(value, place, key),
};

for await (const line of createInterface({ input: process.stdin })) {
  const asked = parse(line) as JsonObject & { kind: string };
  const { kind, ...input } = asked;
  const answer = answers[kind]?.(input);
  process.stdout.write(`${format(answer as unknown as JsonObject)}\n`);
}
