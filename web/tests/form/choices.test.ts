import assert from "node:assert/strict";
import { test } from "node:test";
import { format, type Json, type JsonObject, parse } from "../../src/api/json.ts";
import { checkEdits, messages } from "../../src/form/checks.ts";
import { choiceTexts, chosenOf } from "../../src/form/choices.ts";
import { applyEdits, formatEdits, NO_EDITS, setOpenValue, withTypedSecrets } from "../../src/form/edits.ts";
import { blank, kindOf, offered } from "../../src/form/fields.ts";
import { readSchema, shownChoices } from "../../src/form/schema.ts";

function placeOf(rules: string) {
  return readSchema(parse(`{"properties":{"value":${rules}}}`) as JsonObject).at("/value");
}

/** Rules, and the values that a member may have, with what a person reads. */
const OFFERED: [rules: string, offered: [value: string, text: string][]][] = [
  [
    '{"enum":[1,"1",true,"true",null,"null",1.5,"auto"]}',
    [
      ["1", "1"],
      ['"1"', '"1" (text)'],
      ["true", "true"],
      ['"true"', '"true" (text)'],
      ['"null"', '"null" (text)'],
      ["1.5", "1.5"],
      ['"auto"', "auto"],
    ],
  ],
  [
    '{"enum":["1","2",""]}',
    [
      ['"1"', "1"],
      ['"2"', "2"],
      ['""', "an empty text"],
    ],
  ],
  [
    '{"enum":["a"," a","a  b","a b","A","an empty text",""]}',
    [
      ['"a"', "a"],
      ['" a"', '" a"'],
      ['"a  b"', '"a  b"'],
      ['"a b"', "a b"],
      ['"A"', "A"],
      ['"an empty text"', '"an empty text"'],
      ['""', "an empty text"],
    ],
  ],
  [
    '{"enum":[{"a":1},{"a":2},[1,2],"[1,2]"]}',
    [
      ['{"a":1}', '{"a":1}'],
      ['{"a":2}', '{"a":2}'],
      ["[1,2]", "[1,2]"],
      ['"[1,2]"', '"[1,2]" (text)'],
    ],
  ],
  ['{"type":"string","enum":["a",1,null]}', [['"a"', "a"]]],
  [
    '{"type":"integer","minimum":2,"enum":[1,2,3.0,2.5]}',
    [
      ["2", "2"],
      ["3.0", "3.0"],
    ],
  ],
  ['{"enum":["a","b"],"allOf":[{"enum":["b","c"]}]}', [['"b"', "b"]]],
  ['{"const":"only","enum":["only","other"]}', [['"only"', "only"]]],
  [
    '{"oneOf":[{"const":"lo","title":"Low"},{"const":"hi"},{"enum":[3,4],"deprecated":true},{"type":"null"}]}',
    [
      ['"lo"', "Low (lo)"],
      ['"hi"', "hi"],
      ["3", "3, deprecated"],
      ["4", "4, deprecated"],
    ],
  ],
  ['{"type":"string","anyOf":[{"const":"a"},{"const":5}]}', [['"a"', "a"]]],
  ['{"oneOf":[{"const":1},{"enum":[1,2]}]}', [["2", "2"]]],
];

for (const [rules, expected] of OFFERED) {
  test(`what ${rules} allows is offered, and each choice is told from the others`, () => {
    const place = placeOf(rules);
    assert.equal(kindOf(place, undefined, []), "choice");
    const choices = offered(place, { isItem: false });
    const texts = choiceTexts(choices);
    assert.deepEqual(
      choices.map(({ value }, index) => [format(value), texts[index]]),
      expected,
    );
    for (const { value } of choices) assert.deepEqual(messages(place, value), []);
  });
}

test("null is a choice for an item, which it may be, and not for a member", () => {
  const place = placeOf('{"enum":["a",null]}');
  const values = (isItem: boolean) => offered(place, { isItem }).map(({ value }) => value);
  assert.deepEqual([values(true), values(false)], [["a", null], ["a"]]);
});

const LONG = "x".repeat(200);

test("long texts that begin alike are shown whole", () => {
  assert.deepEqual(choiceTexts([{ value: `${LONG}1` }, { value: `${LONG}2` }]), [`${LONG}1`, `${LONG}2`]);
});

test("a message names only some of very many choices", () => {
  const place = placeOf(`{"enum":${format(Array.from({ length: 500 }, (_, index): Json => index))}}`);
  assert.equal(offered(place, { isItem: false }).length, 500);
  const [message = ""] = messages(place, 600);
  assert.match(message, /^expected one of 0, 1, 2, .*, 19 and 480 others$/);
});

for (const [rules, kind] of [
  ['{"oneOf":[{"const":1},{"type":"string"}]}', "json"],
  ['{"type":["string","null"]}', "text"],
  ['{"enum":[null]}', "json"],
  ['{"oneOf":[{"const":"a","minLength":2},{"const":"b"}]}', "json"],
] as const) {
  test(`${rules} is edited as ${kind}`, () => assert.equal(kindOf(placeOf(rules), undefined, []), kind));
}

const ACCOUNTS: Json[] = [
  { user: "anna", password: "planted-1" },
  { user: "bert", password: "planted-2" },
  { user: "bert", password: "planted-3" },
  { user: "guest" },
];
const accounts = readSchema({ properties: { account: { enum: ACCOUNTS } } });

test("an object with a secret is chosen, and neither its text, a message nor a draft has the secret", () => {
  const place = accounts.at("/account");
  const choices = offered(place, { isItem: false });
  assert.deepEqual(choiceTexts(shownChoices(place, choices)), [
    '{"user":"anna","password":"***"}',
    '{"user":"bert","password":"***"}, 1 of 2',
    '{"user":"bert","password":"***"}, 2 of 2',
    '{"user":"guest"}',
  ]);
  const config: JsonObject = { account: { user: "anna", password: "***" } };
  assert.equal(kindOf(place, config.account, []), "choice");
  assert.equal(chosenOf(choices, config.account ?? null), 0);

  for (const [index, value] of ACCOUNTS.entries()) {
    const edits = setOpenValue(config, NO_EDITS, "/account", value, accounts);
    const current = applyEdits(config, edits);
    assert.equal(kindOf(place, current.account, []), "choice");
    assert.equal(chosenOf(choices, withTypedSecrets(current.account ?? null, edits, "/account")), index);
    assert.deepEqual(checkEdits(accounts, config, edits), []);
    assert.doesNotMatch(formatEdits(edits), /planted/);
  }
});

test("which choice a value is remains open where only its secret says so", () => {
  const choices = offered(accounts.at("/account"), { isItem: false });
  assert.equal(chosenOf(choices, { user: "bert", password: "***" }), undefined);
  assert.deepEqual(messages(accounts.at("/account"), { user: "bert", password: "***" }), []);
  assert.deepEqual(messages(accounts.at("/account"), { user: "anna" }), [
    'expected one of {"user":"anna","password":"***"}, {"user":"bert","password":"***"}, 1 of 2, ' +
      '{"user":"bert","password":"***"}, 2 of 2, {"user":"guest"}',
  ]);
});

test("a new value begins without the secrets that the schema has for it", () => {
  const secret = { enum: ACCOUNTS.slice(0, 2), default: ACCOUNTS[0] ?? null };
  assert.deepEqual(blank(readSchema({ properties: { account: secret } }).at("/account").node), {});
  assert.deepEqual(blank(accounts.at("/account").node), { user: "guest" });
});
