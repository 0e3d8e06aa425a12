"""What is kept? Answers, scores, runs and artefacts; nothing above it knows files.

Why a journal of our own, and no SQLite database? Both were put to the same faults: SQLite 3.40 with WAL, `synchronous=FULL`,
group commits and a checksum in every row. SQLite was given help as well: a scan of all rows and `integrity_check` at each
opening, and a reader of its pages and WAL frames that finds rows without SQLite. The rule: a flipped byte is noticed and costs
at most the records it touches, and nothing acknowledged is lost. What failed (counts are records unless said otherwise;
`tests/faults/test_store_sqlite.py` repeats rows 1 and 3):

===================================================  =================================================  =============================
fault                                                SQLite                                             journal
===================================================  =================================================  =============================
1. one flipped byte in the log of a killed run       up to 167 of 900 gone, nothing said                1 lost, told
   the same, page reader run before SQLite           1 lost, told but in the last frame                 1 lost, told
   the same, somebody ran a SELECT before            up to 164 gone for good, nothing said              1 lost, told
2. one flipped byte in a database page               up to all 300 unreadable; page reader: 1 lost      1 lost, told
   the same in the root's header, two stores open    13 of 40 flips: writing is refused from then on    0 of 40 refused, up to 2 lost
3. the process reads the file (copy, hash), another  100 of 110 acknowledged lost by a kill: its locks  none lost
   one opens and closes the store                    were dropped (POSIX), the log deleted
4. an fsync fails inside a checkpoint                goes on, nothing said                              stops, told
5. eight writers, locks off (some network disks)     143 of 191 acknowledged lost                       0 of 320 lost
6. a killed run's store on read-only media           not readable without its `-shm` file               all 200 readable
7. rollback journal: no log that a flip cuts short   an open reader stops every writer                  readers stop nobody
   trials a second, same disk, two runs              336, 412                                           607, 1484
8. log emptied after every commit                    grows again beside an open reader                  readers stop nobody
   trials a second, the same runs                    388, 765                                           607, 1484
9. CPU to open 100,000 trials                        1.5 s (all rows checked, heads are JSON)           0.3 s; 2.5 s after a kill
===================================================  =================================================  =============================

Row 3 could be met by a look at the log's inode before each acknowledgement, row 4 by checkpoints of our own, row 9 by columns.
Rows 1, 2 and 5 could not: one file that everybody writes, and a log that any reader's SQLite replays and deletes by its own rules.

What held: trials a second (the same as the journal, within what the disk varies), a disk full at any page, kills in the middle
of commits while others read, a log cut at any byte, claims of eight processes, purging a whole database, memory (178 MiB
for a million trials). A power cut between two writes was not tried.
"""
