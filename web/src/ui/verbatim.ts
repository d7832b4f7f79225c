/**
 * Has an input take a name or a value as it is typed: the keyboard of a phone would begin it with a capital letter and
 * correct it to a word. Spelt `autoCorrect`, it is set as the attribute: the property is a Boolean, for which "off" is true.
 */
export const VERBATIM = { autocapitalize: "off", autoCorrect: "off", spellcheck: false } as const;
