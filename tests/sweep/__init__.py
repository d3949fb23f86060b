"""The kill sweep: every verb, killed or failed at every system call that changes anything."""
