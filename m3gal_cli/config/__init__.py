"""Settings: schema, profiles, sources and their precedence, data paths, generated reference."""
