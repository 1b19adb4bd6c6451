"""Damaged and hostile files for every reader, made from valid ones by a seed.

`python -m tests.fuzz --cases 5000 --seed 7` reads 5,000 of them with each reader and counts how that ended:

    read         as a valid file. Formats without checksums cannot tell a changed weight.
    refused      with an error that names what is wrong (`JaxInterpError`)
    executed     something of the file ran: a program was started, a file written, a module loaded
    crash        any other exception, or the process died
    hang         more than `child.SECONDS` of processor time
    memory       more than `child.MEMORY` on top of what the process had
    wrong value  read, with other values than were saved, although the format has checksums

The last five are faults. A case is named by its reader and its number; `--seed` and the number make it again.
"""
