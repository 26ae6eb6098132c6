"""What can go wrong for a client: the server says no, or nobody answers.

No error's text holds a token.
"""


class ClientError(Exception):
    """Base of the errors a client meets; its text is for people."""


class Unreachable(ClientError):
    """There is no connection, it was lost, or no answer came in time. Trying again later can help."""


class ServerError(ClientError):
    """The server refused a handshake, a request or a call.

    `code` is its number (as in `adsum.domain.errors`), `name` the short public
    name if it told one, `detail` a sentence that says why, if it gave one.
    """

    def __init__(self, code: int, name: str, detail: str) -> None:
        super().__init__(f"{detail or name or 'refused'} ({f'{name} {code}' if name else code})")
        self.code = code
        self.name = name
        self.detail = detail

    @property
    def final(self) -> bool:
        """Whether the token is at fault, so that connecting again with it is of no use."""
        return 1501 <= self.code <= 1507
