"""The spool: one way in, plain files, nothing lost.

layout   names, paths and sortable ids
entry    job file <-> values
frames   the journal's self-delimiting records
journal  writers: begin, write, commit
intake   journal -> body and job files; checkpoint; recovery is the same loop
spool    the queue's side: names, claim, settle, remove
group    many commits, one sync
fs       the system calls of this room, and no others
"""
