/**
 * JSON without loss: a number that JavaScript cannot hold, or would write in another way, stays what it was.
 *
 * `1`, `0.5` and `-3` are numbers; 9007199254740993, `1.0` and `1e400` are `LosslessNumber`s, which keep their text.
 */

import { isLosslessNumber, LosslessNumber, parse as parseLossless, stringify } from "lossless-json";

export { isLosslessNumber, LosslessNumber };

export type JsonObject = { [name: string]: Json };
export type Json = null | boolean | string | number | LosslessNumber | Json[] | JsonObject;

function parseNumber(text: string): number | LosslessNumber {
  const value = Number(text);
  return String(value) === text ? value : new LosslessNumber(text);
}

/**
 * Read a JSON text.
 *
 * @throws SyntaxError if it is not JSON, or an object has a member twice.
 */
export function parse(text: string): Json {
  return parseLossless(text, undefined, parseNumber) as Json;
}

/** Write a value as JSON; `indent` is the number of spaces, 0 for one line. */
export function format(value: Json | undefined, indent = 0): string {
  return stringify(value, undefined, indent || undefined) ?? "";
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !isLosslessNumber(value);
}

/** Whether two values are the same JSON, where the order of members has no meaning and 1 is 1.0. */
export function isEqual(one: Json | undefined, other: Json | undefined): boolean {
  if (one === other) return true;
  if (isNumber(one) && isNumber(other)) return isSameNumber(String(one), String(other));
  if (Array.isArray(one) && Array.isArray(other)) {
    return one.length === other.length && one.every((item, index) => isEqual(item, other[index]));
  }
  if (isObject(one) && isObject(other)) {
    const names = Object.keys(one);
    return (
      names.length === Object.keys(other).length &&
      names.every((name) => Object.hasOwn(other, name) && isEqual(one[name], other[name]))
    );
  }
  return false;
}

export function isNumber(value: unknown): value is number | LosslessNumber {
  return typeof value === "number" || isLosslessNumber(value);
}

/** Compare two numbers as texts of JSON, without rounding them to a double. */
function isSameNumber(one: string, other: string): boolean {
  return one === other || normalized(one) === normalized(other);
}

/** Return the digits and the exponent of a number: 1.50e1 and 15 are both `15e0`. */
function normalized(text: string): string {
  const [, sign = "", whole = "", fraction = "", exponent = "0"] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text) ?? [];
  const digits = (whole + fraction).replace(/^0+/, "");
  const significant = digits.replace(/0+$/, "");
  if (significant === "") return "0";
  return `${sign}${significant}e${BigInt(exponent) - BigInt(fraction.length) + BigInt(digits.length - significant.length)}`;
}
