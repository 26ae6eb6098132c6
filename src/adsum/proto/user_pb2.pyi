from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class onlineStatus(_message.Message):
    __slots__ = ("userID", "status", "platformIDs")
    USERID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PLATFORMIDS_FIELD_NUMBER: _ClassVar[int]
    userID: str
    status: int
    platformIDs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, userID: _Optional[str] = ..., status: _Optional[int] = ..., platformIDs: _Optional[_Iterable[int]] = ...) -> None: ...

class getUserStatusReq(_message.Message):
    __slots__ = ("userID", "userIDs")
    USERID_FIELD_NUMBER: _ClassVar[int]
    USERIDS_FIELD_NUMBER: _ClassVar[int]
    userID: str
    userIDs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, userID: _Optional[str] = ..., userIDs: _Optional[_Iterable[str]] = ...) -> None: ...

class getUserStatusResp(_message.Message):
    __slots__ = ("statusList",)
    STATUSLIST_FIELD_NUMBER: _ClassVar[int]
    statusList: _containers.RepeatedCompositeFieldContainer[onlineStatus]
    def __init__(self, statusList: _Optional[_Iterable[_Union[onlineStatus, _Mapping]]] = ...) -> None: ...

class setUserStatusReq(_message.Message):
    __slots__ = ("userID", "status", "platformID", "connID", "isBackground")
    USERID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PLATFORMID_FIELD_NUMBER: _ClassVar[int]
    CONNID_FIELD_NUMBER: _ClassVar[int]
    ISBACKGROUND_FIELD_NUMBER: _ClassVar[int]
    userID: str
    status: int
    platformID: int
    connID: str
    isBackground: bool
    def __init__(self, userID: _Optional[str] = ..., status: _Optional[int] = ..., platformID: _Optional[int] = ..., connID: _Optional[str] = ..., isBackground: _Optional[bool] = ...) -> None: ...

class setUserStatusResp(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class userOnlineStatus(_message.Message):
    __slots__ = ("userID", "connID", "online", "offline")
    USERID_FIELD_NUMBER: _ClassVar[int]
    CONNID_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_FIELD_NUMBER: _ClassVar[int]
    userID: str
    connID: str
    online: _containers.RepeatedScalarFieldContainer[int]
    offline: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, userID: _Optional[str] = ..., connID: _Optional[str] = ..., online: _Optional[_Iterable[int]] = ..., offline: _Optional[_Iterable[int]] = ...) -> None: ...

class setUserOnlineStatusReq(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _containers.RepeatedCompositeFieldContainer[userOnlineStatus]
    def __init__(self, status: _Optional[_Iterable[_Union[userOnlineStatus, _Mapping]]] = ...) -> None: ...

class setUserOnlineStatusResp(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class getAllOnlineUsersReq(_message.Message):
    __slots__ = ("cursor",)
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    cursor: int
    def __init__(self, cursor: _Optional[int] = ...) -> None: ...

class getAllOnlineUsersResp(_message.Message):
    __slots__ = ("StatusList", "nextCursor")
    STATUSLIST_FIELD_NUMBER: _ClassVar[int]
    NEXTCURSOR_FIELD_NUMBER: _ClassVar[int]
    StatusList: _containers.RepeatedCompositeFieldContainer[onlineStatus]
    nextCursor: int
    def __init__(self, StatusList: _Optional[_Iterable[_Union[onlineStatus, _Mapping]]] = ..., nextCursor: _Optional[int] = ...) -> None: ...

class subscribeOrCancelUsersStatusReq(_message.Message):
    __slots__ = ("userID", "userIDs", "genre")
    USERID_FIELD_NUMBER: _ClassVar[int]
    USERIDS_FIELD_NUMBER: _ClassVar[int]
    GENRE_FIELD_NUMBER: _ClassVar[int]
    userID: str
    userIDs: _containers.RepeatedScalarFieldContainer[str]
    genre: int
    def __init__(self, userID: _Optional[str] = ..., userIDs: _Optional[_Iterable[str]] = ..., genre: _Optional[int] = ...) -> None: ...

class subscribeOrCancelUsersStatusResp(_message.Message):
    __slots__ = ("statusList",)
    STATUSLIST_FIELD_NUMBER: _ClassVar[int]
    statusList: _containers.RepeatedCompositeFieldContainer[onlineStatus]
    def __init__(self, statusList: _Optional[_Iterable[_Union[onlineStatus, _Mapping]]] = ...) -> None: ...

class getSubscribeUsersStatusReq(_message.Message):
    __slots__ = ("userID",)
    USERID_FIELD_NUMBER: _ClassVar[int]
    userID: str
    def __init__(self, userID: _Optional[str] = ...) -> None: ...

class getSubscribeUsersStatusResp(_message.Message):
    __slots__ = ("statusList",)
    STATUSLIST_FIELD_NUMBER: _ClassVar[int]
    statusList: _containers.RepeatedCompositeFieldContainer[onlineStatus]
    def __init__(self, statusList: _Optional[_Iterable[_Union[onlineStatus, _Mapping]]] = ...) -> None: ...
