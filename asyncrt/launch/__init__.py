"""Turns a plan into a process that waits at its gate. Standard library only.

Runs in the fork server and what it forks, never on the event loop's side.
"""
