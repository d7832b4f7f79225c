/** The tokens of the home: administrators list, create and revoke them. */

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Answers, failure, type RequestError, request, useToken } from "../api/client.ts";
import type { Whoami } from "../api/queries.ts";
import { changeQuery, enter, leave, route } from "../router.ts";
import type { ScreenProps } from "../screens.ts";
import { now } from "../store/clock.ts";
import { invalidate, useResource } from "../store/resources.ts";
import { useTyped } from "../store/typed.ts";
import { useWhoami } from "../store/whoami.ts";
import { AdminOnly } from "../ui/admin_only.tsx";
import { Done } from "../ui/done.tsx";
import { Await, Dialog, ErrorSummary, Field, Heading, Notice, Tag, Time, type Tone } from "../ui/elements.tsx";
import { ACTIONS, ListTable } from "../ui/list_table.tsx";
import { VERBATIM } from "../ui/verbatim.ts";

type Token = Answers["TokenItem"];
type Created = Answers["TokenAnswer"];
type Role = Token["role"];

const ROLES: Record<Role, string> = {
  service: "what the rules give its name, and its own configuration",
  reader: "reads every configuration",
  writer: "reads and changes every configuration",
  admin: "everything, tokens included",
  metrics: "reads /metrics and nothing else",
};

const DAY = 86_400;
const EXPIRIES: readonly [title: string, seconds: number | undefined][] = [
  ["never", undefined],
  ["in a day", DAY],
  ["in 30 days", 30 * DAY],
  ["in 90 days", 90 * DAY],
  ["in a year", 365 * DAY],
];

export function TokensScreen(_: ScreenProps) {
  return (
    <>
      <Heading title="Tokens" />
      <AdminOnly otherwise={<Notice title="Only administrators see the tokens." />}>
        <Tokens />
      </AdminOnly>
    </>
  );
}

/** In the address: `create`, a token is about to be made, `revoke`, the one that is about to be revoked, and `created`. */
function Tokens() {
  const who = useWhoami();
  const tokens = useResource("tokens", (signal) => request<Answers["TokensAnswer"]>("GET", "/tokens", { signal }), [
    "tokens",
  ]);
  const { query } = route.value;
  const created = useCreated(query.created);
  const [done, setDone] = useState<string>();
  const mayChange = who.data?.tokens ?? false;
  const revoking = tokens.data?.tokens.find(
    ({ token_id, revoked }) => token_id === query.revoke && revoked === null && mayChange,
  );
  // Another administrator may have revoked it meanwhile.
  const isOver = query.revoke !== undefined && tokens.data !== undefined && !tokens.loading && revoking === undefined;
  useEffect(() => {
    if (isOver) leave("revoke");
  }, [isOver]);
  return (
    <>
      {done !== undefined && query.revoke === undefined && <Done message={done} onClose={() => setDone(undefined)} />}
      {mayChange && (
        <p>
          <button type="button" class="primary" onClick={() => enter({ create: "1" })}>
            Create a token
          </button>
        </p>
      )}
      {who.data !== undefined && !mayChange && <WhyNot who={who.data} />}
      <Await of={tokens}>
        {(data) => (
          <List
            tokens={data.tokens}
            own={who.data?.token_id ?? undefined}
            {...(mayChange ? { onRevoke: ({ token_id }) => enter({ revoke: token_id }) } : {})}
          />
        )}
      </Await>
      {mayChange && query.create !== undefined && (
        <CreateDialog
          onClose={() => leave("create")}
          onCreated={(token) => {
            made.value = token;
            invalidate("tokens");
          }}
        />
      )}
      {created !== undefined && <CreatedDialog token={created} onClose={() => leave("created")} />}
      {revoking !== undefined && (
        <RevokeDialog
          token={revoking}
          isOwn={revoking.token_id === who.data?.token_id}
          onClose={() => leave("revoke")}
          onDone={() => {
            setDone(`The token of ${revoking.name} is revoked.`);
            if (route.peek().query.revoke === revoking.token_id) leave("revoke");
          }}
        />
      )}
    </>
  );
}

/** The token that was made last, until its text was seen: who left the screen meanwhile finds it there. */
const made = signal<Created | undefined>(undefined);

/** Use the token that was made, while the address names it: afterwards nothing leads to its text any more. */
function useCreated(id: string | undefined): Created | undefined {
  const created = made.value;
  const shown = created?.token_id === id ? created : undefined;
  const wasShown = useRef(false);
  useEffect(() => {
    if (shown !== undefined) wasShown.current = true;
    else if (created !== undefined && !wasShown.current) changeQuery({ create: undefined, created: created.token_id });
    else if (id !== undefined) changeQuery({ created: undefined });
    if (shown === undefined) forget();
  }, [id, created]);
  useEffect(() => forget, []);
  function forget() {
    if (wasShown.current) made.value = undefined;
    wasShown.current = false;
  }
  return shown;
}

/** Says why tokens can be looked at here, but not changed. */
function WhyNot({ who }: { who: Whoami }) {
  if (who.open)
    return (
      <Notice title="The first token is made on the machine of the daemon.">
        <p>
          There, <code>aliciacfg token create NAME --role admin</code> prints it. It closes the home for good: from then
          on each caller needs a token or a rule, over MQTT as well.
        </p>
      </Notice>
    );
  if (!who.private)
    return (
      <Notice title="Somebody could read a token on the way here.">
        <p>
          Over HTTPS, or on the machine of the daemon, this page can create and revoke tokens; so can{" "}
          <code>aliciacfg token create</code> and <code>revoke</code> there.
        </p>
      </Notice>
    );
  return (
    <Notice title="Only an administrator with a token creates and revokes tokens.">
      <p>
        <code>aliciacfg token create</code> and <code>revoke</code> do the same on the machine of the daemon.
      </p>
    </Notice>
  );
}

function state(token: Token): { tone: Tone; text: string } {
  if (!token.confirmed) return { tone: "bad", text: "changed in the database" };
  if (token.revoked !== null) return { tone: "neutral", text: "revoked" };
  if (token.expires !== null && Number(token.expires) <= now.value) return { tone: "neutral", text: "expired" };
  return { tone: "good", text: "valid" };
}

function List({
  tokens,
  own,
  onRevoke,
}: {
  tokens: Token[];
  own: string | undefined;
  onRevoke?: (token: Token) => void;
}) {
  if (tokens.length === 0) return <p class="empty">There is no token.</p>;
  const ordered = [...tokens].sort((one, other) => Number(other.created) - Number(one.created));
  return (
    <ListTable caption="The tokens" columns={["Name", "Role", "State", "Created", "Expires", "Id", ACTIONS]}>
      {ordered.map((token) => {
        const { tone, text } = state(token);
        return (
          <tr key={token.token_id}>
            <th scope="row">
              {token.name} {token.token_id === own && <Tag tone="info">that of this page</Tag>}
            </th>
            <td data-label="Role">
              {token.role} <span class="muted">({ROLES[token.role]})</span>
            </td>
            <td data-label="State">
              <Tag tone={tone}>{text}</Tag>{" "}
              {token.revoked !== null && (
                <span class="muted">
                  <Time seconds={token.revoked} />
                </span>
              )}
            </td>
            <td data-label="Created">
              <Time seconds={token.created} />
            </td>
            <td data-label="Expires">
              <Time seconds={token.expires} />
            </td>
            <td data-label="Id">
              <code class="whole">{token.token_id}</code>
            </td>
            <td class="actions">
              {token.revoked === null && onRevoke !== undefined && (
                <button type="button" class="small danger" onClick={() => onRevoke(token)}>
                  Revoke <span class="visually-hidden">the token of {token.name}</span>
                </button>
              )}
            </td>
          </tr>
        );
      })}
    </ListTable>
  );
}

function CreateDialog({ onClose, onCreated }: { onClose: () => void; onCreated: (token: Created) => void }) {
  const [name, setName] = useTyped("token/name");
  const [chosenRole, setRole] = useTyped("token/role");
  const [expiry, setExpiry] = useTyped("token/expiry");
  const role = chosenRole in ROLES ? (chosenRole as Role) : "service";
  const [error, setError] = useState<RequestError>();
  const [sending, setSending] = useState(false);
  function forget() {
    for (const set of [setName, setRole, setExpiry]) set("");
  }
  async function submit(event: SubmitEvent) {
    event.preventDefault();
    setSending(true);
    const seconds = EXPIRIES[Number(expiry)]?.[1];
    try {
      const body = { name: name.trim(), role, ...(seconds === undefined ? {} : { expires_in_seconds: seconds }) };
      const created = await request<Created>("POST", "/tokens", { body });
      forget();
      onCreated(created);
    } catch (reason) {
      setError(failure(reason));
      setSending(false);
    }
  }
  return (
    <Dialog title="Create a token" onClose={onClose}>
      <form onSubmit={submit}>
        {error !== undefined && <ErrorSummary error={error} />}
        <Field label="Name" hint="A service, or a person. The rules of access.yaml are about names.">
          {({ id, hint }) => (
            <input
              id={id}
              aria-describedby={hint}
              required
              maxLength={64}
              autoComplete="off"
              {...VERBATIM}
              value={name}
              onInput={(event) => setName(event.currentTarget.value)}
            />
          )}
        </Field>
        <Field label="Role" hint={`It may do: ${ROLES[role]}.`}>
          {({ id, hint }) => (
            <select
              id={id}
              aria-describedby={hint}
              value={role}
              onChange={(event) => setRole(event.currentTarget.value)}
            >
              {Object.keys(ROLES).map((value) => (
                <option key={value} value={value}>
                  {value}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Field label="Expires">
          {({ id }) => (
            <select id={id} value={expiry || "0"} onChange={(event) => setExpiry(event.currentTarget.value)}>
              {EXPIRIES.map(([title], at) => (
                <option key={title} value={at}>
                  {title}
                </option>
              ))}
            </select>
          )}
        </Field>
        <div class="buttons">
          <button type="submit" class="primary" disabled={sending}>
            Create
          </button>
          <button
            type="button"
            onClick={() => {
              forget();
              onClose();
            }}
          >
            Cancel
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** The token itself: shown once, kept nowhere. */
function CreatedDialog({ token, onClose }: { token: Created; onClose: () => void }) {
  const field = useRef<HTMLInputElement>(null);
  const [copied, setCopied] = useState<string>();
  async function copy() {
    try {
      await navigator.clipboard.writeText(token.token);
      setCopied("Copied.");
    } catch {
      // Over plain HTTP there is no clipboard: then the text is selected for the user's own keys.
      field.current?.select();
      setCopied("It is selected: copy it with the keys of your system.");
    }
  }
  return (
    <Dialog title={`The token of ${token.name}`} keepsOpen onClose={onClose}>
      <p>This is the only time that it can be seen: the daemon stores no more than its digest.</p>
      <Field label="Token">
        {({ id }) => (
          <input
            id={id}
            ref={field}
            readOnly
            autoComplete="off"
            value={token.token}
            onFocus={(event) => event.currentTarget.select()}
          />
        )}
      </Field>
      <p role="status">{copied}</p>
      <div class="buttons">
        <button type="button" class="primary" onClick={() => void copy()}>
          Copy
        </button>
        <button
          type="button"
          onClick={() => {
            useToken(token.token);
            onClose();
          }}
        >
          Use it in this tab
        </button>
        <button type="button" onClick={onClose}>
          Done
        </button>
      </div>
    </Dialog>
  );
}

interface RevokeProps {
  token: Token;
  isOwn: boolean;
  onClose: () => void;
  onDone: () => void;
}

function RevokeDialog({ token, isOwn, onClose, onDone }: RevokeProps) {
  const [error, setError] = useState<RequestError>();
  const [sending, setSending] = useState(false);
  async function revoke() {
    setSending(true);
    try {
      await request("POST", `/tokens/${encodeURIComponent(token.token_id)}/revoke`, { body: {} });
      invalidate("tokens");
      onDone();
      if (isOwn) useToken("");
    } catch (reason) {
      setError(failure(reason));
      setSending(false);
    }
  }
  return (
    <Dialog title={`Revoke the token of ${token.name}?`} onClose={onClose}>
      {error !== undefined && <ErrorSummary error={error} />}
      <p>
        Whatever uses the token <code>{token.token_id}</code> ({token.role}) is refused from then on. This cannot be
        undone; another token can be created.
      </p>
      {isOwn && (
        <Notice tone="warning" title="This page uses it.">
          {" "}
          It asks for another token afterwards.
        </Notice>
      )}
      <div class="buttons">
        <button type="button" class="danger" disabled={sending} onClick={() => void revoke()}>
          Revoke
        </button>
        <button type="button" onClick={onClose}>
          Cancel
        </button>
      </div>
    </Dialog>
  );
}
