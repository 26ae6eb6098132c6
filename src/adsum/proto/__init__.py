"""Generated from `proto/` by `scripts/proto.sh`; not to be edited."""
