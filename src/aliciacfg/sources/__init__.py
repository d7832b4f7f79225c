"""What people edit on disk: environment files, schema files, secrets."""
