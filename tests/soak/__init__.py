"""The soak: random operations by several processes on shared sandboxes, with kills; a command."""
