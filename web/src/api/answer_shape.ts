/** Whether an answer is what this page can show: another version of the daemon, or a proxy, may have sent it. */

import { isNumber, isObject, type Json } from "./json.ts";
import { ROUTES, SHAPES } from "./shapes.ts";

const routes = ROUTES.map((route) => {
  const [method = "", path = "", shape = ""] = route.split(" ");
  return { method, segments: path.split("/"), shape };
})
  // A name could be that of a fixed path, which comes first.
  .sort((one, other) => stars(one.segments) - stars(other.segments));

function stars(segments: readonly string[]): number {
  return segments.filter((segment) => segment === "*").length;
}

/**
 * Return what is wrong with the answer to a request, such as "/drift/0/subject is missing"; undefined if it is as the
 * documentation of the API says, or that says nothing of the path.
 */
export function whatIsWrong(method: string, path: string, answer: Json): string | undefined {
  const segments = path.split("/");
  const route = routes.find(
    (each) =>
      each.method === method &&
      each.segments.length === segments.length &&
      each.segments.every((segment, index) => segment === "*" || segment === segments[index]),
  );
  return route === undefined ? undefined : wrongShape(answer, `@${route.shape}`, "");
}

const NAMES: Record<string, string> = { s: "a text", n: "a number", b: "true or false", o: "an object", a: "a list" };

function wrongShape(value: Json, code: string, at: string): string | undefined {
  const [kind = ""] = code;
  const inner = code.slice(1);
  switch (kind) {
    case "*":
      return undefined;
    case "?":
      return value === null ? undefined : wrongShape(value, inner, at);
    case "[":
      if (!Array.isArray(value)) return not("a", at);
      return first(value, (item, index) => wrongShape(item, inner, `${at}/${index}`));
    case "{":
      if (!isObject(value)) return not("o", at);
      return first(Object.entries(value), ([name, member]) => wrongShape(member, inner, `${at}/${name}`));
    case "@":
      if (!isObject(value)) return not("o", at);
      return first(Object.entries(SHAPES[inner] ?? {}), ([name, member]) =>
        wrongMember(value[name], member, `${at}/${name}`),
      );
    default:
      return isKind(value, kind) ? undefined : not(kind, at);
  }
}

function wrongMember(value: Json | undefined, code: string, at: string): string | undefined {
  const isOptional = code.startsWith("~");
  if (value === undefined) return isOptional ? undefined : `${at} is missing`;
  return wrongShape(value, isOptional ? code.slice(1) : code, at);
}

function isKind(value: Json, kind: string): boolean {
  if (kind === "n") return isNumber(value);
  if (kind === "a") return Array.isArray(value);
  if (kind === "o") return isObject(value);
  return typeof value === (kind === "s" ? "string" : "boolean");
}

function not(kind: string, at: string): string {
  return `${at || "it"} is not ${NAMES[kind]}`;
}

function first<T>(values: readonly T[], look: (value: T, index: number) => string | undefined): string | undefined {
  for (const [index, value] of values.entries()) {
    const found = look(value, index);
    if (found !== undefined) return found;
  }
  return undefined;
}
