/** Two whole configurations side by side, or one below the other where there is no room. */

import { MergeView, unifiedMergeView } from "@codemirror/merge";
import { EditorState } from "@codemirror/state";
import { EditorView } from "@codemirror/view";
import { useEffect, useRef } from "preact/hooks";
import type { JsonObject } from "../api/json.ts";
import { look } from "./codemirror.ts";
import { writeText } from "./config_text.ts";
import type { TextFormat } from "./drafts.ts";
import { inOrderOf } from "./member_order.ts";

export interface WholeDocumentsProps {
  before: JsonObject;
  after: JsonObject;
  format: TextFormat;
}

const COLLAPSE = { margin: 3, minSize: 6 };
const NARROW = 640;

export function WholeDocuments({ before, after, format }: WholeDocumentsProps) {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (host.current === null) return;
    const root = host.current.shadowRoot ?? host.current.attachShadow({ mode: "open" });
    const old = writeText(before, format);
    const next = writeText(inOrderOf(before, after) as JsonObject, format);
    const fixed = (label: string) => [
      look(format),
      EditorState.readOnly.of(true),
      EditorView.contentAttributes.of({ "aria-label": label, "aria-readonly": "true" }),
    ];
    if (host.current.clientWidth < NARROW) {
      const view = new EditorView({
        root,
        parent: root,
        doc: next,
        extensions: [
          fixed("The configuration afterwards, with what is removed"),
          unifiedMergeView({ original: old, mergeControls: false, collapseUnchanged: COLLAPSE }),
        ],
      });
      return () => view.destroy();
    }
    const view = new MergeView({
      root,
      parent: root,
      a: { doc: old, extensions: fixed("The configuration in force") },
      b: { doc: next, extensions: fixed("The configuration afterwards") },
      collapseUnchanged: COLLAPSE,
      gutter: true,
    });
    return () => view.destroy();
  }, [before, after, format]);
  return <div class="merge-view" ref={host} />;
}
