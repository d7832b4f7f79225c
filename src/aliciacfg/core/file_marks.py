"""What the store's table of names says about the files in force: services, rules, files, and what was compared."""

from collections.abc import Mapping

from aliciacfg import documents
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.core import restore
from aliciacfg.core.loaded_files import LoadedFiles, filled
from aliciacfg.core.plan import Plan
from aliciacfg.core.restore import RulesMark
from aliciacfg.sources.layers import Sources


class FileMarks:
    """The marks as they are stored; they change only when a load is durable, never by a dry run or a refused one.

    Attributes:
        rules: Whether the store says that the home has had access rules.
        history_sealed: Whether the store says that its whole history was compared with the schemas in force.
    """

    def __init__(self, *, files: LoadedFiles, authorizer: Authorizer, rules: RulesMark, history_sealed: bool) -> None:
        """Hold the parts.

        Args:
            files: The files in force.
            authorizer: Knows whether rules are in force.
            rules: As the attribute.
            history_sealed: As the attribute.
        """
        self._files = files
        self._authorizer = authorizer
        self.rules: RulesMark = rules
        self.history_sealed = history_sealed

    def plan(self, plan: Plan, sources: Sources, defined: Mapping[str, list[str]]) -> None:
        """Add to a plan what the table has to hold with these files, which name services by environment."""
        rules: RulesMark = self._rules_with(sources)
        if rules != self.rules:
            plan.meta[restore.RULES] = rules
        if defined != self._files.defined:
            plan.meta[restore.DEFINED] = documents.encode(defined).decode()
        if not self.history_sealed:
            plan.meta[restore.HISTORY_SEALED] = restore.SEALED
        found = filled(sources)
        if found != list(self._files.found):
            plan.meta[restore.FILES] = documents.encode(found).decode()

    def loaded(self, sources: Sources) -> None:
        """Note that what was planned with these files is durable; before they are in force."""
        self.rules = self._rules_with(sources)
        self.history_sealed = True

    def follow(self, meta: Mapping[str, str]) -> None:
        """Note what another daemon stored: names with values that changed."""
        if restore.RULES in meta:
            self.rules = restore.rules_mark(meta)
        if restore.HISTORY_SEALED in meta:
            self.history_sealed = meta[restore.HISTORY_SEALED] == restore.SEALED

    def _rules_with(self, sources: Sources) -> RulesMark:
        if sources.access is not None:
            return "since"
        if self.rules == "unknown" and not self._authorizer.had_rules:
            # The store of an older aliciacfg does not say; files that are in force without rules do.
            return "never"
        return self.rules
