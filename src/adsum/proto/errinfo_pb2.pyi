from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorInfo(_message.Message):
    __slots__ = ("path", "line", "name", "cause", "warp")
    PATH_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    WARP_FIELD_NUMBER: _ClassVar[int]
    path: str
    line: int
    name: str
    cause: str
    warp: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, path: _Optional[str] = ..., line: _Optional[int] = ..., name: _Optional[str] = ..., cause: _Optional[str] = ..., warp: _Optional[_Iterable[str]] = ...) -> None: ...
