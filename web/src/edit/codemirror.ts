/**
 * CodeMirror as the console uses it. It stands in a shadow root: there its styles are constructable style sheets, which
 * a Content-Security-Policy without `unsafe-inline` allows.
 */

import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { json } from "@codemirror/lang-json";
import { yaml } from "@codemirror/lang-yaml";
import {
  bracketMatching,
  codeFolding,
  foldGutter,
  foldKeymap,
  HighlightStyle,
  indentOnInput,
  syntaxHighlighting,
} from "@codemirror/language";
import { lintGutter, lintKeymap } from "@codemirror/lint";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { EditorState, type Extension } from "@codemirror/state";
import {
  drawSelection,
  EditorView,
  highlightActiveLine,
  highlightSpecialChars,
  keymap,
  lineNumbers,
} from "@codemirror/view";
import { tags } from "@lezer/highlight";
import type { TextFormat } from "./drafts.ts";

// The custom properties of the page hold in the shadow root, too, so that the theme follows.
const theme = EditorView.theme({
  "&": {
    backgroundColor: "var(--surface)",
    color: "var(--text)",
    border: "1px solid var(--control)",
    borderRadius: "var(--radius)",
    fontSize: "var(--typed-size)",
  },
  "&.cm-focused": { outline: "3px solid var(--accent)", outlineOffset: "2px" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.5" },
  ".cm-content": { caretColor: "var(--text)" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  ".cm-gutters": { backgroundColor: "var(--raised)", color: "var(--muted)", borderRight: "1px solid var(--line)" },
  ".cm-activeLine": { backgroundColor: "color-mix(in srgb, var(--accent) 8%, transparent)" },
  ".cm-activeLineGutter": { backgroundColor: "transparent", color: "var(--text)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    backgroundColor: "color-mix(in srgb, var(--accent) 30%, transparent)",
  },
  ".cm-panels": { backgroundColor: "var(--raised)", color: "var(--text)" },
  ".cm-panels button, .cm-panels input": { font: "inherit" },
  ".cm-textfield": { backgroundColor: "var(--surface)", color: "var(--text)", borderColor: "var(--control)" },
  ".cm-button": { backgroundImage: "none", backgroundColor: "var(--surface)", color: "var(--text)" },
  ".cm-tooltip": { backgroundColor: "var(--surface)", color: "var(--text)", borderColor: "var(--control)" },
  // The library's own marks are data: images, which the policy does not allow.
  ".cm-lintRange": { backgroundImage: "none", textDecoration: "underline wavy", textDecorationColor: "var(--bad)" },
  ".cm-lintRange-active": { backgroundColor: "var(--bad-ground)" },
  ".cm-lint-marker": { content: "none", width: "1em", height: "auto" },
  ".cm-lint-marker:before": { content: '"!"', color: "var(--bad)", fontWeight: "700" },
  ".cm-diagnostic-error": { borderLeftColor: "var(--bad)" },
  ".cm-changedLine": { backgroundColor: "var(--good-ground) !important" },
  "&.cm-merge-a .cm-changedLine, .cm-deletedChunk": { backgroundColor: "var(--bad-ground) !important" },
  ".cm-changedText, .cm-deletedChunk .cm-deletedText": {
    background: "none !important",
    textDecoration: "underline",
    textDecorationThickness: "2px",
    fontWeight: "700",
  },
  ".cm-collapsedLines": {
    background: "var(--raised)",
    color: "var(--muted)",
  },
  ".cm-collapsedLines:before, .cm-collapsedLines:after": { content: '"⋯"' },
});

const highlight = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--accent)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--warning)" },
  { tag: tags.string, color: "var(--good)" },
  { tag: tags.comment, color: "var(--muted)", fontStyle: "italic" },
]);

/** Return what editors and comparisons share. */
export function look(kind: TextFormat): Extension {
  return [
    theme,
    syntaxHighlighting(highlight),
    kind === "yaml" ? yaml() : json(),
    lineNumbers(),
    highlightSpecialChars(),
    EditorView.lineWrapping,
  ];
}

export interface EditorOptions {
  text: string;
  kind: TextFormat;
  readOnly: boolean;
  label: string;
  /** Is called with the text whenever the user changed it. */
  onChange: (text: string) => void;
}

/** Make an editor in an element of a shadow root. Tab leaves it, as any other control. */
export function makeEditor(root: ShadowRoot, options: EditorOptions): EditorView {
  const { text, kind, readOnly, label, onChange } = options;
  return new EditorView({
    root,
    parent: root,
    state: EditorState.create({
      doc: text,
      extensions: [
        look(kind),
        codeFolding(),
        foldGutter(),
        history(),
        drawSelection(),
        indentOnInput(),
        bracketMatching(),
        highlightActiveLine(),
        highlightSelectionMatches(),
        lintGutter(),
        keymap.of([...defaultKeymap, ...historyKeymap, ...foldKeymap, ...searchKeymap, ...lintKeymap]),
        EditorState.readOnly.of(readOnly),
        EditorView.contentAttributes.of({ "aria-label": label, ...(readOnly ? { "aria-readonly": "true" } : {}) }),
        EditorView.updateListener.of((update) => {
          const typed = update.transactions.some((transaction) => !transaction.isUserEvent(SHOWN));
          if (update.docChanged && typed) onChange(update.state.doc.toString());
        }),
      ],
    }),
  });
}

const SHOWN = "shown";

/** Show another text; the cursor stays where it is, and only what differs is replaced. */
export function showText(view: EditorView, text: string): void {
  const before = view.state.doc.toString();
  if (before === text) return;
  let from = 0;
  while (from < Math.min(before.length, text.length) && before[from] === text[from]) from += 1;
  let end = 0;
  while (
    end < Math.min(before.length, text.length) - from &&
    before[before.length - 1 - end] === text[text.length - 1 - end]
  ) {
    end += 1;
  }
  view.dispatch({
    changes: { from, to: before.length - end, insert: text.slice(from, text.length - end) },
    userEvent: SHOWN,
  });
}
