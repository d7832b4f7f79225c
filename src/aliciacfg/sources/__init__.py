"""The files that people edit: environment files, schema files, access rules and secrets."""
