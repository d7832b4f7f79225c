/**
 * What docs/reference/alerts.md and drift.md say of each kind; written by `npm run advice`. `code` is in backticks, what
 * is in angle brackets stands for a subject.
 */

import type { Advice } from "./advice.ts";

export const ALERTS: Record<string, Advice> = {
  access_closed: {
    meaning: "at the start the files could not be used, and the access rules are not known",
    remedy: "correct the files; without `access.yaml`, restart the daemon afterwards",
  },
  acl_missing: {
    meaning: "rules or tokens exist, but the broker authenticates no caller",
    remedy: "load the files of `aliciacfg setup`, with `allow_anonymous false`",
  },
  "acl_missing:home_assistant": {
    meaning:
      "rules or tokens exist, and the broker lets every program send commands in the place of Home Assistant: all are refused",
    remedy: "load the files of `aliciacfg setup`, made with `ALICIACFG_HOME_ASSISTANT=on`",
  },
  adopted: {
    meaning: "`keys.json` was lost: a new one adopted the rows of the database",
    remedy:
      "`aliciacfg keys add --from` the old file, do not copy it over the new one; if it is lost for good, set the secrets again and run `aliciacfg keys acknowledge`: see When `keys.json` is lost",
  },
  another_daemon: {
    meaning:
      "a client answers health checks as another config service, or another daemon serves a copy of this data directory",
    remedy: "stop the second daemon; if there is none, find the client, and load the access list",
  },
  drift: { meaning: "something differs from the store", remedy: "see Drift" },
  file_vanished: {
    meaning: "a file in force is missing or empty",
    remedy: "put it back; if it was removed on purpose, wait: see Files",
  },
  "home_assistant:entities": {
    meaning: "settings are left out of Home Assistant, because there are too many",
    remedy: "mark fewer, or raise `ALICIACFG_HOME_ASSISTANT_MAX_ENTITIES`",
  },
  "home_assistant:access": {
    meaning: "access rules let Home Assistant see nothing",
    remedy: "name `home_assistant` in `access.yaml`",
  },
  "internal:<task>": {
    meaning:
      "a task of the daemon met an error that it does not expect; it was started again, and everything else goes on",
    remedy: "report the traceback in the log as a fault of aliciacfg",
  },
  keys_outdated: {
    meaning:
      "several daemons serve the home, the keys in its database changed, and this daemon cannot read them, or they are those of an earlier time: it goes on with those before",
    remedy:
      "the message says why; after `aliciacfg keys rewrap` put the new key-encryption key in place, see Keys of several daemons",
  },
  migration_pending: {
    meaning: "a schema has a new major version",
    remedy: "`aliciacfg migrate --dry-run`, then `aliciacfg migrate`",
  },
  no_leader: {
    meaning:
      "several daemons serve the home, and none of them leads: retained messages, edits of files and registrations wait",
    remedy:
      "see which one is not ready, and why: `aliciacfg replicas`; one of them takes over as soon as it reaches the database",
  },
  open_access: { meaning: "protected mode is off", remedy: "nothing, if the network is trusted" },
  plain_copies: {
    meaning:
      "another program reads the database, so values that were sealed since can still be read in `aliciacfg.db-wal`",
    remedy: "end it (`sqlite3`, a backup); the daemon then removes the copies within a second",
  },
  "replica_gone:<name>": {
    meaning:
      "a daemon of several that serve the home has not reported for 5 seconds, and did not stop in order; the one that leads tells",
    remedy: "start it again, see its log; if it is not to come back, this ends after an hour",
  },
  requests_not_shared: {
    meaning:
      "several daemons serve the home, and the broker does not share requests among them: only the one that leads answers over MQTT, the others over HTTP",
    remedy:
      "let `config_service` subscribe to `$share/aliciacfg/#`, or use a broker with shared subscriptions; it is tried again every minute",
  },
  restored: {
    meaning: "the database is older than what was published from it",
    remedy: "nothing, if you restored a backup: see a database that went back",
  },
  service_ended: {
    meaning:
      "once: an edit of a file was loaded, and a service ends because no file names it any more, or it keeps only its secrets; a new name that looks like it is named",
    remedy: "if that is not meant, put the name back: the configuration comes back with it",
  },
  shadowed: {
    meaning: "once: an edit of a file was loaded, but a change made at run time hides the new value",
    remedy: "if the file should count, remove the change with `aliciacfg unset`; see The overlay",
  },
  "store:damage": {
    meaning:
      "the database file is damaged. What could be read is served; if something that a start needs could not, nothing is written any more",
    remedy: "stop the daemon, restore the database from a backup, start again",
  },
  "store:read": {
    meaning:
      "the database cannot be read. Configurations are served from memory; history, old revisions and the audit log are `unavailable`",
    remedy: "mend the disk; the daemon then continues by itself",
  },
  "store:rows": { meaning: "rows of the database are not what the daemon wrote, or are missing", remedy: "see Drift" },
  "store:slow": {
    meaning:
      "a write has been waiting for the disk for 2 seconds, or for 10 (`hung`); from then on further ones are refused",
    remedy: "see what holds up the disk",
  },
  "store:hung": {
    meaning:
      "a write has been waiting for the disk for 2 seconds, or for 10 (`hung`); from then on further ones are refused",
    remedy: "see what holds up the disk",
  },
  "store:write": {
    meaning:
      "the database cannot be written: the disk is full, read-only or failing, or another program has locked the database. Writes are `unavailable`, reads go on",
    remedy: "free some space, mend the disk, end the other program; the daemon then continues by itself",
  },
  tamper: {
    meaning: "another client publishes on update topics",
    remedy: "find it, and restrict these topics to `config_service`",
  },
  "undecryptable:<environment>": {
    meaning:
      "`READY … M not served`: run-time changes, or values in files, are sealed with a missing key; the alert names them",
    remedy: "add the key (`aliciacfg keys add`), or set these services, or seal these values, again",
  },
  "undelivered:<service>": {
    meaning: "the update is larger than an MQTT packet may be",
    remedy:
      "make the configuration smaller, or raise `max_packet_size` and `message_size_limit` of the broker, restart it, and raise `ALICIACFG_MAX_PACKET_BYTES`",
  },
  "undelivered:home_assistant": {
    meaning: "the broker does not hold what Home Assistant has to read",
    remedy: "load the files of `aliciacfg setup`, made with `ALICIACFG_HOME_ASSISTANT=on`",
  },
  undelivered: { meaning: "the broker does not hold a message", remedy: "its access list has to allow these topics" },
  "validation_failed:ignored": {
    meaning: "the names of files are not UTF-8 or have invisible characters",
    remedy: "rename or remove the files that it names",
  },
  validation_failed: {
    meaning: "an edit of the files was refused, a write was invalid, or a service registered that may not",
    remedy: "correct the file and line that the alert names; `status` is `degraded` until then",
  },
};

export const DRIFT: Record<string, Advice> = {
  retained: {
    meaning:
      "another client wrote to one of the daemon's retained topics; the daemon overwrites the message at once, and ever later if this goes on",
    remedy: "restrict these topics",
  },
  file: {
    meaning:
      "a file changed, but the previous one is served. Of several daemons: a machine has other files than those that serve; the finding names both",
    remedy: "correct what the alert `validation_failed` names; bring the same files to all machines",
  },
  row: {
    meaning: "the keyed codes do not confirm a row",
    remedy: "find out what wrote to the database; do what the finding says, or restore a backup",
  },
  instance: {
    meaning: "an instance of a service did not apply the current revision in time, or rejected it",
    remedy: "inspect that instance",
  },
};
