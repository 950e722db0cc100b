"""The reference pages of the documentation, made from code: commands, settings, files."""
