/** The types of JSON Schema. */

import { isNumber, type Json } from "../api/json.ts";
import { isInteger } from "./numbers.ts";

/** A type of a value; an integer is a number without a fraction. */
export type TypeName = "string" | "integer" | "number" | "boolean" | "object" | "array" | "null";

/** Return the type of a value. */
export function typeOf(value: Json): TypeName {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (isNumber(value)) return isInteger(value) ? "integer" : "number";
  return typeof value as TypeName;
}
