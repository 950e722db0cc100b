"""The commands of ``cytolibra reviews``."""
