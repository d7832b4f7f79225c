/** Asks for the name of a service that no file names, and for the environment in which it begins. */

import { environments } from "../api/queries.ts";
import { schemaOf } from "../edit/service_data.ts";
import { changeQuery, href, navigate } from "../router.ts";
import type { ScreenProps } from "../screens.ts";
import { useResource } from "../store/resources.ts";
import { useTyped } from "../store/typed.ts";
import { mayWrite, useWhoami } from "../store/whoami.ts";
import { Field, Heading, Notice } from "../ui/elements.tsx";
import { VERBATIM } from "../ui/verbatim.ts";

/** As the daemon takes it. */
const NAME = "[A-Za-z0-9][A-Za-z0-9_.\\-]{0,63}";

export function NewService({ route }: ScreenProps) {
  const known = useResource("environments", environments, ["environment", "files"]).data;
  const who = useWhoami();
  const [name, setName] = useTyped("service/name");
  const env = route.query.env ?? known?.active;
  return (
    <>
      <Heading title="New service" />
      {!mayWrite(who) && <Notice title="You may read, but not change anything."> Enter a token that may.</Notice>}
      <p>
        Its configuration is stored in the database, not in your files. To have it in the files, with a schema to
        complete, use <code>aliciacfg service add NAME --schema</code> in their directory.
      </p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          setName("");
          void begin(name, env);
        }}
      >
        <div class="filters">
          <Field label="Name" hint="Letters, digits, “_”, “.” and “-”; at most 64 characters.">
            {({ id, hint }) => (
              <input
                id={id}
                aria-describedby={hint}
                required
                pattern={NAME}
                autoComplete="off"
                {...VERBATIM}
                value={name}
                onInput={(event) => setName(event.currentTarget.value)}
              />
            )}
          </Field>
          {known !== undefined && (
            <Field label="Environment">
              {({ id }) => (
                <select id={id} value={env ?? ""} onChange={(event) => changeQuery({ env: event.currentTarget.value })}>
                  {known.environments.map((each) => (
                    <option key={each.name} value={each.name}>
                      {each.name === known.active ? `${each.name} (active)` : each.name}
                    </option>
                  ))}
                </select>
              )}
            </Field>
          )}
        </div>
        <div class="buttons">
          <button type="submit" class="primary">
            Write its configuration
          </button>
        </div>
      </form>
    </>
  );
}

/** Open a new service: in the form if a schema describes it, as text if not, because its form has no field yet. */
async function begin(name: string, env: string | undefined): Promise<void> {
  const schema = await schemaOf(name, env, AbortSignal.timeout(10_000)).catch(() => ({}));
  const tab = Object.keys(schema).length > 0 ? undefined : "raw";
  navigate(href(["services", name], { env, new: "1", tab }));
}
