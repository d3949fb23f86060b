"""The soak: random operations by several processes on shared sandboxes, with kills; a command.

`soak` starts `worker`s and an `observer`, kills (`killer`), and looks at what is left (`ending`). Workers
note in the `oplog` what they are about to do and what became of it. The observer takes part in nothing:
it follows the events (`story`), looks at records, processes, cgroups and mounts (`look`), and at the end
compares what it was told with what was done (`causes`). All of it happens in a `scene`.
"""
