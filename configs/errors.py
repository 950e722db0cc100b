"""The errors that people see: each message says what is wrong, where, and what to do."""

MOST = 2000
"""Characters of a message: of more, nobody reads what is in the middle."""

_HEAD = 1500


class CytoLibraError(Exception):
    """A problem that the user can mend; its text is the whole message, without a traceback.

    Messages quote what stands in files. Whatever that is, a message is one line of printable
    characters, of `MOST` at most: white space becomes single spaces, what can't be printed, or
    turns the direction of writing, is escaped, and the middle of a longer one is left out.

    Attributes:
        exit_code: what the command line exits with when this error ends a command.
    """

    exit_code = 1

    def __init__(self, text: str = "") -> None:
        super().__init__(one_line(text))


class ConfigError(CytoLibraError):
    """The call or the configuration is wrong; nothing was started."""

    exit_code = 2


def one_line(text: str) -> str:
    """A text of any origin as one line for people; what is one already stays as it is."""
    line = text if text.isprintable() else _printable(text)
    if len(line) <= MOST:
        return line
    return f"{line[:_HEAD]} … {line[_HEAD + 3 - MOST :]}"


def _printable(text: str) -> str:
    # Line breaks that no terminal takes for one, such as U+2028, are shown for what they are.
    line = " ".join(text.split()) if set(text) & set("\n\r\t\v\f") else text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
