"""The processes that outlive a call: fork server, supervisor, one-shot. Standard library only."""
