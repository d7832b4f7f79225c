/**
 * The edits of one service in one environment, from the first key to the answer of the daemon.
 *
 * A session outlives its screen, and its draft outlives the page. It follows what others change meanwhile: the edits
 * are always relative to the newest configuration, and a place that others changed, too, waits for a decision.
 */

import { batch, effect, signal } from "@preact/signals";
import { type Answers, configPath, type Problem, RequestError, request } from "../api/client.ts";
import { isEqual, type JsonObject } from "../api/json.ts";
import { type Change, type Edits, hasSecrets, isSameEdit, NO_EDITS } from "../form/edits.ts";
import { find, isWithin } from "../form/pointer.ts";
import { draftsOf, dropDraft, tabsWithDraft } from "../store/drafts.ts";
import { type Conflict, mergeChanges } from "./conflicts.ts";
import { type Draft, keepDraft, mayHaveSecret, readDraft, type TextFormat } from "./drafts.ts";
import type { Reviewed } from "./reviewed.ts";
import { type Base, type HistoryItem, isNewer, mergedNews, type News } from "./revisions.ts";
import { isOpen, thisTab, thisTabNow } from "./tabs.ts";
import { newestRevisions, type Outcome, type Write, type WriteAnswer } from "./write.ts";

type How = Reviewed["kind"];

/** What a write did. */
export interface Applied {
  changes: Change[];
  /** The places that take effect after a restart. */
  restart: string[];
  how: How;
  /** Whether the broker was away, so that the change is published later. */
  waits: boolean;
}

/** A write that is not in force, or of which that is not known. */
export type Failure = Exclude<Outcome, { kind: "done" }> & {
  write: Write;
  /** What the daemon answered to its dry run. */
  trial: WriteAnswer;
  /** The edits of which it was made. */
  sent: Edits;
};

/** The text of the raw editor while it differs from the configuration. */
export interface RawText {
  format: TextFormat;
  text: string;
  /** The configuration of which the text was made. */
  base: Base;
  /** Why it is no configuration yet; undefined if it is one, which the edits have then. */
  broken?: string;
  /** As `SchemaTree.secretNames`. */
  secretNames: ReadonlySet<string> | undefined;
}

export interface OtherDraft {
  tab: string;
  draft: Draft;
  open: boolean;
}

const KEEP_AFTER_MS = 300;

export class Session {
  readonly service: string;
  readonly environment: string;
  readonly base;
  readonly edits = signal<Edits>(NO_EDITS);
  readonly conflicts = signal<Conflict[]>([]);
  readonly text = signal<RawText | undefined>(undefined);
  readonly comment = signal("");
  readonly news = signal<News | undefined>(undefined);
  /** What the user is told while a write is under way. */
  readonly sending = signal<string | undefined>(undefined);
  /** What became of the last write, if it is not in force. */
  readonly failure = signal<Failure | undefined>(undefined);
  /** Why the daemon refused the edits, for the fields of the form. */
  readonly problems = signal<Problem[]>([]);
  /** The draft that was found when the session began. */
  readonly restored = signal<Draft | undefined>(undefined);
  /** Drafts of other tabs. */
  readonly others = signal<OtherDraft[]>([]);
  /** Whether the browser does not keep drafts: its storage is full or denied. */
  readonly unkept = signal(false);
  /** The last write of this page, until it is undone or dismissed. */
  readonly applied = signal<(Applied & { revision: number; before: number }) | undefined>(undefined);

  #writing = false;
  #waiting: Base | undefined;
  #queue: Promise<void> = Promise.resolve();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #kept = false;

  constructor(service: string, environment: string, base: Base) {
    this.service = service;
    this.environment = environment;
    this.base = signal(base);
    effect(() => {
      // All that a draft has.
      this.edits.value;
      this.conflicts.value;
      this.text.value;
      this.comment.value;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.keep(), KEEP_AFTER_MS);
    });
    effect(() => {
      // A conflict about a place that is not edited any more is none.
      const edits = this.edits.value;
      const left = this.conflicts.peek().filter(({ pointer }) => edits.has(pointer));
      if (left.length !== this.conflicts.peek().length) this.conflicts.value = left;
      // Other edits are another write.
      const failed = this.failure.peek()?.kind;
      if (failed === "refused" || failed === "conflict") this.failure.value = undefined;
    });
    effect(() => {
      // Another tab sent its edits, or discarded them.
      draftsOf();
      const left = this.others.peek().filter(({ tab }) => readDraft(this.#place(tab)) !== undefined);
      if (left.length !== this.others.peek().length) this.others.value = left;
    });
    this.#queue = this.#restore().catch(() => {});
  }

  /** Whether there is anything that was typed and not sent. */
  get isEdited(): boolean {
    return this.edits.value.size > 0 || this.text.value?.broken !== undefined;
  }

  /** Whether there is a text that no draft has, because a secret may stand in it. */
  get hasUnkeptText(): boolean {
    const text = this.text.value;
    return text?.broken !== undefined && mayHaveSecret(text.text, text.base.config, text.secretNames);
  }

  /** Take the configuration that the daemon has now. */
  receive(next: Base): void {
    if (this.#writing) this.#waiting = next;
    else if (isNewer(next, this.base.peek())) this.#queue = this.#queue.then(() => this.#advance(next)).catch(() => {});
  }

  /** Resolve when everything that was received is taken. */
  settled(): Promise<void> {
    return this.#queue;
  }

  async #advance(next: Base): Promise<void> {
    const before = this.base.peek();
    if (this.#writing) this.#waiting = next;
    if (this.#writing || !isNewer(next, before)) return;
    // Without edits there is nothing to decide, and nothing to wait for.
    if (!this.isEdited) this.#take(before, next, undefined);
    const entries = await this.#entriesSince(before, next);
    if (this.#writing) {
      this.#waiting = next;
      return;
    }
    // A write of this page may have ended meanwhile.
    if (isNewer(next, this.base.peek())) this.#take(this.base.peek(), next, entries);
    else if (this.news.peek()?.revision === next.revision)
      this.news.value = mergedNews(this.news.peek(), { entries, revision: next.revision, changes: [] });
  }

  /** Take a newer configuration; its history is undefined while that is read. */
  #take(before: Base, next: Base, history: HistoryItem[] | undefined): void {
    const entries = history ?? [];
    const changed = entries.flatMap((entry) => entry.changed);
    const merged = mergeChanges(before.config, next.config, this.edits.peek(), changed, this.conflicts.peek());
    batch(() => {
      const text = this.text.peek();
      // A text that only shows the configuration goes with it.
      if (text !== undefined && text.broken === undefined && this.edits.peek().size === 0) this.text.value = undefined;
      this.base.value = next;
      if (merged.edits.size !== this.edits.peek().size) this.edits.value = merged.edits;
      this.conflicts.value = merged.conflicts;
      if (merged.taken.length > 0 || entries.length > 0)
        this.news.value = mergedNews(this.news.peek(), {
          revision: next.revision,
          entries,
          reading: history === undefined,
          changes: merged.taken,
        });
    });
  }

  async #entriesSince(before: Base, next: Base): Promise<HistoryItem[]> {
    if (before.epoch !== next.epoch || before.revision === next.revision || before.revision === 0) return [];
    try {
      const limit = Math.min(next.revision - before.revision + 5, 100);
      const items = await newestRevisions(this.service, this.environment, { limit, atLeast: next.revision });
      return items.filter(({ revision }) => revision > before.revision && revision <= next.revision);
    } catch {
      return [];
    }
  }

  /** Decide a conflict. */
  decide(pointer: string, whose: "mine" | "theirs"): void {
    batch(() => {
      this.conflicts.value = this.conflicts.peek().filter((conflict) => conflict.pointer !== pointer);
      if (whose === "theirs") {
        this.edits.value = new Map([...this.edits.peek()].filter(([edited]) => !isWithin(edited, pointer)));
      }
      this.refreshText();
    });
  }

  /** Have the raw editor show the edits on the newest configuration, unless its text is no configuration. */
  refreshText(): void {
    if (this.text.peek()?.broken === undefined) this.text.value = undefined;
  }

  /** Take the edits of a text that is based on `base`. */
  editText(text: RawText, edits: Edits, wanted: JsonObject): void {
    const before = this.edits.peek();
    const all = new Map(edits);
    for (const [pointer, edit] of before) {
      // The text shows neither a typed secret nor what is no value yet.
      const shown = find(wanted, pointer);
      if (edit.kind === "secret" && shown === "***") all.set(pointer, edit);
      if (edit.kind === "text" && isEqual(shown, find(text.base.config, pointer))) all.set(pointer, edit);
    }
    const conflicts = this.conflicts.peek();
    const fresh = new Map([...all].filter(([pointer]) => !before.has(pointer)));
    const current = this.base.peek();
    const merged = current === text.base ? [] : mergeChanges(text.base.config, current.config, fresh).conflicts;
    batch(() => {
      this.text.value = text;
      this.edits.value = all;
      this.conflicts.value = [...conflicts.filter(({ pointer }) => all.has(pointer)), ...merged];
    });
  }

  /** Note that a write is under way, so that its own revision is not taken for that of somebody else. */
  beginWrite(): void {
    this.#writing = true;
  }

  /** Note that no write is under way any more. */
  endWrite(): void {
    this.#writing = false;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting !== undefined) this.receive(waiting);
  }

  /**
   * Note that a write is in force.
   *
   * @param sent The edits of which it was made; what was typed since stays.
   */
  finishWrite(next: Base, sent: Edits, applied: Applied): void {
    const before = this.base.peek().revision;
    batch(() => {
      this.edits.value = new Map(
        [...this.edits.peek()].filter(([pointer, edit]) => !isSameEdit(edit, sent.get(pointer))),
      );
      this.refreshText();
      this.comment.value = "";
      this.problems.value = [];
      this.restored.value = undefined;
      this.news.value = undefined;
      this.base.value = next;
      this.applied.value = { ...applied, revision: next.revision, before };
    });
    this.keep();
    this.endWrite();
  }

  discard(): void {
    batch(() => {
      this.edits.value = NO_EDITS;
      this.conflicts.value = [];
      this.text.value = undefined;
      this.comment.value = "";
      this.problems.value = [];
      this.failure.value = undefined;
      this.restored.value = undefined;
    });
    this.keep();
  }

  /** Keep the draft in the browser now, or drop it if nothing is edited. */
  keep(): void {
    clearTimeout(this.#timer);
    const place = this.#place(thisTabNow());
    if (!this.isEditedNow()) {
      if (this.#kept) dropDraft(place);
      this.#kept = false;
      this.unkept.value = false;
      return;
    }
    this.#kept = keepDraft(place, this.#draft());
    this.unkept.value = !this.#kept;
  }

  /** Forget the secrets that were typed, as when the user takes the token away. */
  forgetSecrets(): void {
    const edits = this.edits.peek();
    if (hasSecrets(edits)) this.edits.value = new Map([...edits].filter(([, { kind }]) => kind !== "secret"));
  }

  /** Work on the draft of another tab that is not open any more; this tab's own takes its place. */
  exchange({ tab, draft }: OtherDraft): void {
    const own = this.isEditedNow() ? this.#draft() : undefined;
    this.discard();
    if (own === undefined) dropDraft(this.#place(tab));
    else keepDraft(this.#place(tab), own);
    this.others.value = this.others
      .peek()
      .flatMap((other) => (other.tab !== tab ? [other] : own === undefined ? [] : [{ ...other, draft: own }]));
    this.#queue = this.#queue.then(() => this.#use(draft)).catch(() => {});
  }

  dropOther(tab: string): void {
    dropDraft(this.#place(tab));
    this.others.value = this.others.peek().filter((other) => other.tab !== tab);
  }

  private isEditedNow(): boolean {
    return this.edits.peek().size > 0 || this.text.peek()?.broken !== undefined;
  }

  #place(tab: string) {
    return { service: this.service, environment: this.environment, tab };
  }

  #draft(): Draft {
    const { revision, epoch } = this.base.peek();
    const edits = this.edits.peek();
    const text = this.text.peek();
    const open = text?.broken !== undefined && !mayHaveSecret(text.text, text.base.config, text.secretNames);
    const typed = [...edits].flatMap(([pointer, { kind }]) => (kind === "secret" ? [pointer] : []));
    // Those that have to be typed again are not forgotten by another reload.
    const untyped = (this.restored.peek()?.secrets ?? []).filter((pointer) => !edits.has(pointer));
    return {
      revision,
      epoch,
      time: Date.now() / 1000,
      edits,
      secrets: [...typed, ...untyped],
      conflicts: this.conflicts.peek(),
      comment: this.comment.peek(),
      ...(open ? { text: { format: text.format, text: text.text } } : {}),
    };
  }

  /** Find the draft that this tab left, or that a tab left which is not open any more. */
  async #restore(): Promise<void> {
    const before = thisTabNow();
    const own = await thisTab();
    // What was typed before the id was known is kept under the other one.
    if (before !== own) dropDraft(this.#place(before));
    let draft = readDraft(this.#place(own));
    const others: OtherDraft[] = [];
    for (const tab of tabsWithDraft(this.service, this.environment)) {
      if (tab === own || tab === before) continue;
      const found = readDraft(this.#place(tab));
      if (found !== undefined) others.push({ tab, draft: found, open: await isOpen(tab) });
    }
    others.sort((one, other) => other.draft.time - one.draft.time);
    const left = others.findIndex(({ open }) => !open);
    if (draft === undefined && left >= 0 && !this.isEditedNow()) {
      const [adopted] = others.splice(left, 1);
      if (adopted !== undefined) {
        draft = adopted.draft;
        keepDraft(this.#place(own), draft);
        dropDraft(this.#place(adopted.tab));
      }
    }
    this.others.value = others;
    if (draft !== undefined) await this.#use(draft);
  }

  /** Carry a draft over to the configuration as it is now. */
  async #use(draft: Draft): Promise<void> {
    this.#kept = true;
    const base = this.base.peek();
    const same = draft.revision === base.revision && draft.epoch === base.epoch;
    const old = same ? base.config : await this.#configurationOf(draft);
    const entries = same ? [] : await this.#entriesSince({ ...draft, config: {} }, base);
    const changed = entries.flatMap((entry) => entry.changed);
    const merged = mergeChanges(old, base.config, draft.edits, changed, draft.conflicts);
    batch(() => {
      // What was typed meanwhile counts.
      this.edits.value = new Map([...merged.edits, ...this.edits.peek()]);
      this.conflicts.value = merged.conflicts;
      this.comment.value ||= draft.comment;
      if (draft.text !== undefined && this.text.peek() === undefined) {
        // Whether it may be kept was decided when it was; the raw editor decides it anew.
        const broken = "It was no configuration yet when it was kept.";
        this.text.value = { ...draft.text, base, broken, secretNames: new Set() };
      }
      if (merged.taken.length > 0 || entries.length > 0)
        this.news.value = { revision: base.revision, entries, changes: merged.taken };
      if (merged.edits.size > 0 || draft.secrets.length > 0 || draft.text !== undefined) this.restored.value = draft;
    });
  }

  /** Return the configuration on which a draft is based; undefined if it is not kept any more. */
  async #configurationOf({ revision, epoch }: Draft): Promise<JsonObject | undefined> {
    if (revision === 0 || epoch !== this.base.peek().epoch) return undefined;
    try {
      const answer = await request<Answers["ConfigAnswer"]>("GET", configPath(this.service), {
        query: { environment: this.environment, revision },
      });
      return answer.config as JsonObject;
    } catch (error) {
      if (error instanceof RequestError) return undefined;
      throw error;
    }
  }
}
