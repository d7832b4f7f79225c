import { isObject, type Json } from "../api/json.ts";
import { member } from "../form/pointer.ts";

/** Return a value whose members stand in the order of another one, as far as that has them; new ones come last. The items of a list stay where they are. */
export function inOrderOf(pattern: Json | undefined, value: Json): Json {
  if (Array.isArray(value) && Array.isArray(pattern)) {
    return value.map((item, index) => inOrderOf(pattern[index], item));
  }
  if (!isObject(value) || !isObject(pattern)) return value;
  const names = [
    ...Object.keys(pattern).filter((name) => Object.hasOwn(value, name)),
    ...Object.keys(value).filter((name) => !Object.hasOwn(pattern, name)),
  ];
  return Object.fromEntries(names.map((name) => [name, inOrderOf(member(pattern, name), member(value, name) ?? null)]));
}
