"""Who may do what: callers, rules, tokens, the decision, the audit log."""
