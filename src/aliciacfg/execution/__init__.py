"""Running a command with the variables of a configuration, once or anew whenever they change."""
