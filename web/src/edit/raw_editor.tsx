/** The raw editor: the whole configuration as JSON or YAML. What is typed becomes edits like those of the form. */

import { type Diagnostic, setDiagnostics } from "@codemirror/lint";
import type { EditorView } from "@codemirror/view";
import { effect, untracked } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Answers, type Problem, RequestError, request } from "../api/client.ts";
import type { JsonObject } from "../api/json.ts";
import { applyEdits, editsBetween, hasSecrets } from "../form/edits.ts";
import { storedOtherwise } from "../form/numbers.ts";
import type { SchemaTree } from "../form/schema.ts";
import { changeQuery } from "../router.ts";
import { Field, Notice, Problems } from "../ui/elements.tsx";
import { counted } from "../ui/words.ts";
import { makeEditor, showText } from "./codemirror.ts";
import { lineOf, placeOf, readText, TextError, writeText } from "./config_text.ts";
import type { TextFormat } from "./drafts.ts";
import type { Base } from "./revisions.ts";
import type { Session } from "./session.ts";

export interface RawEditorProps {
  session: Session;
  tree: SchemaTree;
  readOnly: boolean;
  /** The format that the address asks for. */
  format: TextFormat;
}

const READ_AFTER_MS = 200;
const CHECK_AFTER_MS = 500;

export function RawEditor(props: RawEditorProps) {
  const { session, readOnly } = props;
  const broken = session.text.value?.broken;
  // A text that cannot be read cannot be written in another format either.
  const format = broken === undefined ? props.format : (session.text.peek()?.format ?? props.format);
  const old = session.text.value !== undefined && session.text.value.base !== session.base.value;
  return (
    <section aria-label="Raw editor">
      <div class="filters">
        <Field label="Format" hint={broken && "It can be changed once the text is a configuration."}>
          {({ id, hint }) => (
            <select
              id={id}
              aria-describedby={hint}
              disabled={broken !== undefined}
              value={format}
              onChange={(event) => {
                session.refreshText();
                changeQuery({ format: event.currentTarget.value === "yaml" ? "yaml" : undefined });
              }}
            >
              <option value="json">JSON</option>
              <option value="yaml">YAML</option>
            </select>
          )}
        </Field>
        {!readOnly && (
          <p class="muted hint">
            <code>***</code> keeps the secret that is there. Comments in the text are lost. Only what differs is sent.
          </p>
        )}
      </div>
      <Editor key={`${format} ${readOnly}`} {...props} format={format} />
      {old && (
        <Notice title="The text is older than the configuration.">
          <p>What others changed meanwhile is not in it. It stays as they made it, unless you change it here, too.</p>
          {broken === undefined && (
            <button type="button" onClick={() => session.refreshText()}>
              Bring the text up to date
            </button>
          )}
        </Notice>
      )}
      {broken !== undefined && (
        <div class="buttons">
          <button
            type="button"
            onClick={() => {
              session.text.value = undefined;
            }}
          >
            Back to the last text that was one
          </button>
        </div>
      )}
    </section>
  );
}

function Editor({ session, tree, readOnly, format }: RawEditorProps) {
  const host = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView>(undefined);
  const { problems, warnings, check } = useCheck(session, view, format);
  useEffect(() => {
    if (host.current === null) return;
    const root = host.current.shadowRoot ?? host.current.attachShadow({ mode: "open" });
    let base: Base = session.base.peek();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let waiting: string | undefined;

    /** Take what was typed. */
    function read(): void {
      clearTimeout(timer);
      if (waiting === undefined) return;
      const text = waiting;
      waiting = undefined;
      try {
        const wanted = readText(text, format);
        const all = { format, text, base, secretNames: tree.secretNames };
        session.editText(all, editsBetween(base.config, wanted, tree), wanted);
        check(base.config);
      } catch (error) {
        if (!(error instanceof TextError)) throw error;
        const where = `line ${lineOf(text, error.at)}: ${error.message}`;
        session.text.value = { format, text, base, broken: where, secretNames: tree.secretNames };
        check(undefined, { message: error.message, at: error.at });
      }
    }

    const kept = session.text.peek();
    const shown = () => writeText(applyEdits(session.base.peek().config, session.edits.peek()), format);
    const mine = kept !== undefined && kept.format === format;
    if (mine) base = kept.base;
    const editor = makeEditor(root, {
      text: mine ? kept.text : shown(),
      kind: format,
      readOnly,
      label: `Configuration of ${session.service} in ${session.environment} as ${format === "yaml" ? "YAML" : "JSON"}`,
      onChange: (text) => {
        waiting = text;
        clearTimeout(timer);
        timer = setTimeout(read, READ_AFTER_MS);
      },
    });
    view.current = editor;
    if (mine && kept.broken !== undefined) {
      waiting = kept.text;
      read();
    } else check(base.config);
    // Without a text of its own the editor shows the edits on the newest configuration. A draft may bring one later.
    const stop = effect(() => {
      const text = session.text.value;
      const newest = session.base.value;
      session.edits.value;
      if (waiting !== undefined || text?.text === editor.state.doc.toString()) return;
      base = text?.base ?? newest;
      showText(editor, text?.text ?? shown());
      if (text?.broken === undefined) check(base.config);
      else {
        waiting = text.text;
        untracked(read);
      }
    });
    window.addEventListener("pagehide", read);
    return () => {
      window.removeEventListener("pagehide", read);
      read();
      stop();
      // The edits have all of it, and the form may change them.
      session.refreshText();
      view.current = undefined;
      editor.destroy();
    };
  }, [session, format, tree, readOnly]);

  function goTo(pointer: string): void {
    const editor = view.current;
    if (editor === undefined) return;
    const { from, to } = placeOf(editor.state, format, pointer);
    editor.dispatch({ selection: { anchor: from, head: to }, scrollIntoView: true });
    editor.focus();
  }

  return (
    <>
      <div class="raw-editor" ref={host} />
      <div class="raw-problems" role="status">
        {problems.length > 0 && (
          <>
            <h3>{counted(problems.length, "problem")}</h3>
            <Problems problems={problems} onPlace={goTo} />
          </>
        )}
        {warnings.map((warning) => (
          <p key={warning} class="warning-text">
            Warning: {warning}
          </p>
        ))}
      </div>
    </>
  );
}

/** Have the daemon check what the editor holds, and mark its problems in the text. */
function useCheck(session: Session, view: { current: EditorView | undefined }, kind: TextFormat) {
  const [found, setFound] = useState<{ problems: Problem[]; warnings: string[] }>({ problems: [], warnings: [] });
  const running = useRef<AbortController>(undefined);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(
    () => () => {
      clearTimeout(timer.current);
      running.current?.abort();
    },
    [],
  );

  function show(problems: Problem[], warnings: string[], at?: number): void {
    setFound({ problems, warnings });
    const editor = view.current;
    if (editor === undefined) return;
    const diagnostics = problems.map(({ pointer, message }): Diagnostic => {
      const place = at === undefined ? placeOf(editor.state, kind, pointer) : { from: at, to: at };
      return { ...place, severity: "error", message: pointer ? `${pointer} ${message}` : message };
    });
    editor.dispatch(setDiagnostics(editor.state, diagnostics));
  }

  async function ask(config: JsonObject, signal: AbortSignal): Promise<void> {
    const { service, environment } = session;
    let edits = session.edits.peek();
    if (hasSecrets(edits))
      edits = await (await import("../form/sealing.ts")).sealEdits(edits, { service, environment });
    const answer = await request<Answers["ValidateAnswer"]>("POST", "/config/validate", {
      body: { service, environment, config: applyEdits(config, edits) },
      signal,
    });
    const otherwise = [...edits].flatMap(([pointer, edit]) =>
      edit.kind === "set" ? storedOtherwise(edit.value, pointer).map((found) => found.join(" ")) : [],
    );
    if (!signal.aborted) show(answer.problems, [...(answer.warnings ?? []), ...otherwise]);
  }

  /** Check the edits on a configuration; or show why the text is none. */
  function check(config: JsonObject | undefined, broken?: { message: string; at: number }): void {
    clearTimeout(timer.current);
    running.current?.abort();
    if (broken !== undefined) show([{ pointer: "", message: broken.message }], [], broken.at);
    if (config === undefined) return;
    timer.current = setTimeout(() => {
      const controller = new AbortController();
      running.current = controller;
      ask(config, controller.signal).catch((error) => {
        // The review says what hinders; here it only could not be checked.
        if (!controller.signal.aborted && error instanceof RequestError)
          show([], [`It could not be checked: ${error.message}`]);
      });
    }, CHECK_AFTER_MS);
  }

  return { ...found, check };
}
