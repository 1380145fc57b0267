"""Typesetting: data becomes PDF bytes in a pool of spawned child processes that can be killed.

    jobs      what goes in and what comes out
    pool      the parent's side: lanes, limits, replacement            (asyncio)
    process   one child as the parent holds it                          (the only user of ``subprocess``)
    wire      the frames on the socket between the two
    child     the child's loop: limits first, then one job after another
    press     page model → PDF or PNG, by Typst and the trusted layout library in ``layout/``
    layout_files  the files of that library, and the folder that the engine reads them from
    fit       widths and heights that are known before the engine sees them (``line_counts``, ``single_rows``,
              ``label_sheet``)
    left_to_right  pages that need no isolates
    pictures  logos as the engine takes them
    fonts     which font files, which characters they have
    codes     QR codes

The package itself imports nothing, so that a child loads only what a child needs.
"""
