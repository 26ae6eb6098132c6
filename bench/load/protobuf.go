package main

import (
	"encoding/binary"
	"errors"
)

// Messages are few and flat, so that they are written by hand: a field is a tag (number and wire
// type) and a value; wire type 0 is a varint, 2 is counted bytes.
const (
	wireVarint = 0
	wireBytes  = 2
)

var errMalformed = errors.New("malformed protobuf")

func appendText(message []byte, number int, text string) []byte {
	message = binary.AppendUvarint(message, uint64(number<<3|wireBytes))
	message = binary.AppendUvarint(message, uint64(len(text)))
	return append(message, text...)
}

func appendVarint(message []byte, number int, value uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(message, uint64(number<<3|wireVarint)), value)
}

// field is one field of a message: its value is number or bytes.
type field struct {
	number int
	varint uint64
	bytes  []byte
}

// next is the first field of a message, and what follows it.
func next(message []byte) (field, []byte, error) {
	tag, size := binary.Uvarint(message)
	if size <= 0 {
		return field{}, nil, errMalformed
	}
	value, more := binary.Uvarint(message[size:])
	if more <= 0 {
		return field{}, nil, errMalformed
	}
	rest, found := message[size+more:], field{number: int(tag >> 3)}
	switch tag & 7 {
	case wireVarint:
		found.varint = value
	case wireBytes:
		if uint64(len(rest)) < value {
			return field{}, nil, errMalformed
		}
		found.bytes, rest = rest[:value], rest[value:]
	default:
		return field{}, nil, errMalformed
	}
	return found, rest, nil
}

// each calls visit for every field of a message, until one fails.
func each(message []byte, visit func(found field) error) error {
	for len(message) > 0 {
		found, rest, err := next(message)
		if err == nil {
			err = visit(found)
		}
		if err != nil {
			return err
		}
		message = rest
	}
	return nil
}

// tip is a user's state as a push names it (SubUserOnlineStatusElem).
func tip(userID string, platforms ...byte) []byte {
	element := appendText(nil, 1, userID)
	if len(platforms) > 0 {
		element = appendText(element, 2, string(platforms))
	}
	return element
}

// tips calls visit for every user of a push, and whether they are online.
func tips(data []byte, visit func(userID string, online bool)) error {
	return each(data, func(element field) error {
		if element.number != 1 {
			return nil
		}
		userID, online := "", false
		err := each(element.bytes, func(found field) error {
			switch found.number {
			case 1:
				userID = string(found.bytes)
			case 2:
				online = true
			}
			return nil
		})
		visit(userID, online)
		return err
	})
}
