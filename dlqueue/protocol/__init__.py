"""What client and daemon share: messages, the method table, envelopes, framing. Standard library only, no I/O."""
