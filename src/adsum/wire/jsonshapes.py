"""The two messages as their JSON has them, for the strict parser.

Apart from `jsonframe`, because a class that the parser reads the annotations of must
not be compiled: the limits would be lost.
"""

from typing import Annotated

import msgspec

_Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class JsonRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A request; the fields are `Request`'s."""

    reqIdentifier: _Int32 = 0  # noqa: N815
    token: str = ""
    sendID: str = ""  # noqa: N815
    operationID: str = ""  # noqa: N815
    msgIncr: str = ""  # noqa: N815
    data: bytes | None = b""


class JsonResponse(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A response; the fields are `Response`'s."""

    reqIdentifier: _Int64 = 0  # noqa: N815
    msgIncr: str = ""  # noqa: N815
    operationID: str = ""  # noqa: N815
    errCode: _Int64 = 0  # noqa: N815
    errMsg: str = ""  # noqa: N815
    data: bytes | None = b""
