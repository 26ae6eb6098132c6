"""What reflection knows: descriptions of protobuf files, found by their name and by what is in them.

A process may know many more files, which are nobody's business; and protobuf's own pool finds no methods.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto


class Symbols:
    """These files, and all that they need. Every method raises `KeyError` for what is not in them."""

    def __init__(self, files: Iterable[FileDescriptorProto]) -> None:
        self._files = {file.name: file for file in files}
        self._homes = {symbol: file.name for file in self._files.values() for symbol in _symbols(file)}
        self._messages = {
            name for file in self._files.values() for one in file.message_type for name in _messages(file.package, one)
        }
        self.services = tuple(
            _in(file.package, service.name) for file in self._files.values() for service in file.service
        )

    def file(self, name: str) -> list[bytes]:
        """A file by its name, then all that it needs, each once; encoded."""
        found: dict[str, FileDescriptorProto] = {}
        names = [name]
        while names:
            file = self._files[names.pop()]
            found[file.name] = file
            names += [needed for needed in file.dependency if needed not in found]
        return [file.SerializeToString() for file in found.values()]

    def file_of(self, symbol: str) -> list[bytes]:
        """The same, for the file that has a service, method, message, field, enum or value of this full name."""
        return self.file(self._homes[symbol.removeprefix(".")])

    def check_message(self, name: str) -> None:
        """Raise for what is no message."""
        if name.removeprefix(".") not in self._messages:
            raise KeyError(name)


def with_needed(files: Iterable[Any]) -> Iterator[FileDescriptorProto]:
    """The descriptions of files (`FileDescriptor`), and of all that they need; some more than once."""
    for file in files:
        yield FileDescriptorProto.FromString(file.serialized_pb)
        yield from with_needed(file.dependencies)


def moved(file: Any, name: str, package: str) -> FileDescriptorProto:  # noqa: ANN401 - stubs have two types for it
    """The messages and services of a file (`FileDescriptor`) under another file name and package."""
    found = FileDescriptorProto.FromString(file.serialized_pb)
    before, after = f".{file.package}.", f".{package}."
    found.name, found.package = name, package
    for message in found.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(before, after)
    for service in found.service:
        for method in service.method:
            method.input_type = method.input_type.replace(before, after)
            method.output_type = method.output_type.replace(before, after)
    return found


def _symbols(file: FileDescriptorProto) -> Iterator[str]:
    for service in file.service:
        full_name = _in(file.package, service.name)
        yield full_name
        yield from (_in(full_name, method.name) for method in service.method)
    for message in file.message_type:
        yield from _symbols_of_message(file.package, message)
    for enum in file.enum_type:
        yield from _symbols_of_enum(file.package, enum)


def _symbols_of_message(scope: str, message: DescriptorProto) -> Iterator[str]:
    full_name = _in(scope, message.name)
    yield full_name
    yield from (_in(full_name, field.name) for field in message.field)
    yield from (_in(full_name, choice.name) for choice in message.oneof_decl)
    for nested in message.nested_type:
        yield from _symbols_of_message(full_name, nested)
    for enum in message.enum_type:
        yield from _symbols_of_enum(full_name, enum)


def _symbols_of_enum(scope: str, enum: EnumDescriptorProto) -> Iterator[str]:
    yield _in(scope, enum.name)
    # Values are beside their enum, as in C++.
    yield from (_in(scope, value.name) for value in enum.value)


def _messages(scope: str, message: DescriptorProto) -> Iterator[str]:
    full_name = _in(scope, message.name)
    yield full_name
    for nested in message.nested_type:
        yield from _messages(full_name, nested)


def _in(scope: str, name: str) -> str:
    return f"{scope}.{name}" if scope else name
