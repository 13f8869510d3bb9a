"""The spool: one way in, plain files, nothing lost.

fs        the system calls of this room, and no others
layout    names, paths and sortable ids
entry     job file <-> values
frames    the journal's self-delimiting records
journal   writers: begin, write, commit
group     many commits, one sync
making    record -> body and job files, once or again
intake    follows the journal; checkpoint; recovery is the same loop
marks     finished work, noted
founding  a new spool is laid out
spool     the queue's side: names, claim, settle, remove
untaken   what is in the journal only, for those who look
cleaning  bodies that no job needs any more
"""
