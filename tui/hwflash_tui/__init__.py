"""The technician's bench: a Textual application over `hwflash.jobs`.

Who does what::

    app.py       BenchApp: the stations, the poll, quitting, the command palette
    station.py   Station: one programmer as the interface knows it; no Textual in it
    actor.py     DeviceActor: the one thread that touches a programmer
    mailbox.py   Mailbox: what that thread says, kept until the interface looks
    meter.py     phase, rate and time left           } plain data, tested
    chipmap.py   the map of a chip, cell by cell     } without Textual
    outcome.py   pass or fail, and what to do next   }
    recent.py    the last orders, on disk            }
    screens/     one module a screen, thin
    widgets/     what several screens show

Rules:

- Hardware is touched by a `DeviceActor` only, never by a Textual worker: the thread of a worker
  that was cancelled runs on, and two threads would be on one programmer. An actor is never
  killed: a stop is a `hwflash.progress.CancelToken`, looked at between blocks, and quitting joins
  every thread.
- A job's words go into a `Mailbox`, which keeps the last event of each phase. The interface looks
  into it at a fixed rate, so that many events cost as much as few.
- A screen is told by `refresh_view` that something may have changed, and shows what the
  `Station` says. It keeps no copy of its own.
- To do something on a chip: ``station.submit(Task(kind, label, work))``. ``work`` gets a
  `TaskContext` and runs in the actor's thread; its end comes as `Station.finished`.
- Every screen has `command`, the command line that does the same; `ctrl+y` copies it.
- State is never told by colour alone: a word or a sign says it too.
- What may be imported is in ``.importlinter``: jobs, boards, errors, progress, units, state, and
  advice for errors.
"""
