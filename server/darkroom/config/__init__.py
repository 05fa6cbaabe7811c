"""Settings: TOML, environment, command line."""
