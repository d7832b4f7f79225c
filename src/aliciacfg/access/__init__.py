"""Access control: callers, rules, tokens, authorization and the audit log."""
