// Write src/api/shapes.ts: what the answers of the API look like, from docs/openapi.json.
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const HEAD = `/**
 * What docs/openapi.json says of answers, for \`answer_shape.ts\`; written by \`npm run shapes\`.
 *
 * Of a member: \`~\` may be missing, \`?\` may be null, \`[\` a list of, \`{\` an object whose members are; \`s\` a string, \`n\` a
 * number, \`b\` true or false, \`o\` any object, \`a\` any list, \`*\` anything, \`@\` the shape of that name.
 */
`;
const LETTERS: Record<string, string> = {
  string: "s",
  integer: "n",
  number: "n",
  boolean: "b",
  object: "o",
  array: "a",
};
const REFERENCE = "#/components/schemas/";
/** What the console never asks for. */
const UNUSED = ["delete /config/{service}", "post /configs/batch", "put /config/{service}/recipient"];
/** They are in every answer and say nothing of it. */
const COMMON = ["status", "request_id"];

// biome-ignore lint/suspicious/noExplicitAny: a schema of any form.
type Schema = Record<string, any>;
export type Shape = Record<string, string>;

/** Return the shapes, and the routes with the method first and the name of the shape last. */
export async function shapes(): Promise<{ shapes: Record<string, Shape>; routes: string[] }> {
  const text = await readFile(new URL("../docs/openapi.json", import.meta.url), "utf8");
  const api = JSON.parse(text);
  const found: Record<string, Shape> = {};

  function code(schema: Schema): string {
    if (typeof schema.$ref === "string") {
      const name = schema.$ref.slice(REFERENCE.length);
      add(name, api.components.schemas[name]);
      return `@${name}`;
    }
    if (Array.isArray(schema.anyOf)) {
      const others = schema.anyOf.filter((each: Schema) => each.type !== "null");
      const nullable = others.length < schema.anyOf.length ? "?" : "";
      return others.length === 1 ? nullable + code(others[0]) : "*";
    }
    if (schema.type === "array" && schema.items !== undefined) return `[${code(schema.items)}`;
    const others = schema.additionalProperties;
    if (schema.type === "object" && typeof others === "object") return `{${code(others)}`;
    const values: unknown[] = schema.const === undefined ? (schema.enum ?? []) : [schema.const];
    const [type = ""] = new Set(values.map((value) => typeof value));
    return LETTERS[schema.type ?? type] ?? "*";
  }

  function add(name: string, schema: Schema): void {
    if (found[name] !== undefined) return;
    const shape: Shape = {};
    found[name] = shape;
    const required: string[] = schema.required ?? [];
    for (const [member, inner] of Object.entries<Schema>(schema.properties ?? {})) {
      const is = code(inner);
      const optional = required.includes(member) ? "" : "~";
      if (!COMMON.includes(member) && optional + is !== "~*") shape[member] = optional + is;
    }
  }

  const routes: string[] = [];
  for (const [path, methods] of Object.entries<Schema>(api.paths)) {
    for (const [method, operation] of Object.entries<Schema>(methods)) {
      const answer = operation.responses?.["200"]?.content?.["application/json"]?.schema;
      if (answer === undefined || path.endsWith(".json") || UNUSED.includes(`${method} ${path}`)) continue;
      // Of several the first is the one that is asked for without further parameters.
      const schema = answer.anyOf?.[0] ?? answer;
      const name = schema.$ref?.slice(REFERENCE.length) ?? path;
      if (schema.$ref === undefined) add(name, schema);
      else code(schema);
      routes.push(`${method.toUpperCase()} ${path.replace(/\{\w+\}/g, "*")} ${name}`);
    }
  }
  return { shapes: found, routes };
}

/** Return the text of the module. */
export async function shapesText(): Promise<string> {
  const all = await shapes();
  return `${HEAD}
export const SHAPES: Record<string, Record<string, string>> = ${JSON.stringify(all.shapes)};

/** Method, path with \`*\` for a name, and the shape of the answer. */
export const ROUTES: readonly string[] = ${JSON.stringify(all.routes)};
`;
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  await writeFile(new URL("src/api/shapes.ts", import.meta.url), await shapesText());
