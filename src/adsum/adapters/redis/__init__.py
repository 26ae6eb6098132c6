"""The store on Redis (7.0 or later) or Valkey: single, replicated by Sentinel, or a cluster."""
