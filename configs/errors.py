"""The errors that people see: each message says what is wrong, where, and what to do."""


class CytoLibraError(Exception):
    """A problem that the user can mend; its text is the whole message, without a traceback.

    Attributes:
        exit_code: what the command line exits with when this error ends a command.
    """

    exit_code = 1


class ConfigError(CytoLibraError):
    """The call or the configuration is wrong; nothing was started."""

    exit_code = 2
